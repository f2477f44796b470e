"""A whole federation on real 8x8 digits that runs in a second or two."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config

SETTINGS = [
    "data.name=digits",
    "data.max_images=400",
    "partition.num_sites=3",
    "model.block_channels=[8,16]",
    "model.attention=[false,false]",
    "training.batch_size=8",
    "training.local_steps=2",
    "federation.rounds=4",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=2",
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


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"
