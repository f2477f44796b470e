"""A whole federation on real 8x8 digits that runs in a second or two."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import secure_parties as secure_parties_module
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config

# Without secure aggregation three sites are enough; what does not depend on it is tested so.
SETTINGS = [
    "secure_aggregation.mode=off",
    "data.name=digits",
    "data.max_images=400",
    "partition.num_sites=3",
    "model.block_channels=[8]",
    "model.attention=[false]",
    "training.batch_size=8",
    "training.local_steps=2",
    "federation.rounds=4",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "output.num_samples=4",
    "device=cpu",
]


@pytest.fixture(scope="session")
def tiny_settings() -> list[str]:
    """Overrides of a run of four rounds over three sites."""
    return list(SETTINGS)


@pytest.fixture
def tiny_config() -> RunConfig:
    return load_config(None, SETTINGS)


@pytest.fixture(scope="session")
def secure_settings() -> list[str]:
    """The same over five sites with secure aggregation, a run of three rounds."""
    changed = ("secure_aggregation.mode", "partition.num_sites", "federation.rounds")
    kept = [text for text in SETTINGS if text.partition("=")[0] not in changed]
    return [*kept, "partition.num_sites=5", "federation.rounds=3"]


@pytest.fixture(scope="session")
def secure_parties() -> ModuleType:
    """The module ``secure_parties``: secure rounds whose sites train by a rule."""
    return secure_parties_module


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"
