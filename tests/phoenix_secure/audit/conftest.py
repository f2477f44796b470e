"""Models of one process, small enough for seconds: one overfitted, one that saw each image once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffusers.utils.logging import disable_progress_bar

from built_once import built_once
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

BASE = [
    "data.name=digits",
    "secure_aggregation.mode=off",
    "partition.num_sites=1",
    "partition.scheme=iid",
    "model.block_channels=[16,32]",
    "model.attention=[false,false]",
    "diffusion.prediction=epsilon",
    "training.learning_rate=0.003",
    "training.warmup_steps=10",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "output.num_samples=4",
    "sampling.num_steps=5",
    "ema.decay=0",
    "device=cpu",
]


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two test processes with two threads each wait for one another on two cores."""
    monkeypatch.setattr("phoenix_secure.device.num_cores", lambda: 1)


def train_run(path: Path, *changes: str) -> Path:
    """A finished run in ``path``."""
    disable_progress_bar()
    federation = Run(SimulatedSites(load_config(None, [*BASE, *changes]), cache_dir=path / "cache"))
    folder = RunFolder(path)
    state = federation.start(folder, overwrite=False)
    for _ in federation.rounds(state, folder):
        pass
    federation.finish(folder)
    return path


@pytest.fixture(scope="session")
def train() -> Callable[..., Path]:
    """Train a run of a test's own settings."""
    return train_run


@pytest.fixture(scope="session")
def overfitted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 80 members, each seen some hundreds of times; 200 held out, 120 for reference."""
    changes = (
        "data.max_images=400",
        "data.held_out=0.5",
        "data.reference=0.3",
        "training.batch_size=16",
        "training.local_steps=250",
        "federation.rounds=2",
        "audit.canaries=120",
    )
    return built_once(tmp_path_factory, "overfitted", lambda path: train_run(path, *changes))


@pytest.fixture(scope="session")
def seen_once_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 500 members, each seen once or twice."""
    changes = (
        "data.max_images=1500",
        "data.held_out=0.35",
        "data.reference=0.3",
        "training.batch_size=16",
        "training.local_steps=36",
        "federation.rounds=1",
    )
    return built_once(tmp_path_factory, "seen-once", lambda path: train_run(path, *changes))


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """Members and non-members of 8x8 digits as .npz files."""
    from sklearn.datasets import load_digits

    x = np.unique(np.rint(load_digits().images * (255 / 16)).astype(np.uint8), axis=0)
    x = x[np.random.default_rng(0).permutation(len(x))][:, None]
    found = {}
    for name, part in (("in", x[:80]), ("out", x[80:280]), ("ref", x[300:500])):
        found[name] = tmp_path / f"{name}.npz"
        np.savez(found[name], images=part)
    return found
