"""The command line called in this process, as ``phoenix-secure`` would be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from built_once import built_once
from command_line import Outcome, phoenix

CONFIG = """\
data: {name: digits, max_images: 400}
partition: {num_sites: 5}
model: {block_channels: [8], attention: [false]}
training: {batch_size: 8, local_steps: 2}
federation: {rounds: 3}
sampling: {num_steps: 2}
evaluation: {num_images: 0}
output: {samples_every_rounds: 0, num_samples: 4}
device: cpu
"""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Run one command in an empty folder; wide output, no colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))
    return phoenix


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model in it; never change it."""

    def build(folder: Path) -> None:
        (folder / "tiny.yaml").write_text(CONFIG)
        cache = {"PHOENIX_DATA_DIR": str(folder / "cache")}
        outcome = phoenix("run", "tiny.yaml", "--run-dir", "done", cwd=folder, environ=cache)
        assert outcome.code == 0, outcome.err

    return built_once(tmp_path_factory, "cli-run", build) / "done"


@pytest.fixture
def finished_run(shared_run: Path, tmp_path: Path) -> Path:
    """A copy of ``shared_run``, free to be changed."""
    return Path(shutil.copytree(shared_run, tmp_path / "done"))
