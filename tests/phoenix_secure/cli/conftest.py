"""The command line called in this process, as ``phoenix-secure`` would be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from phoenix_secure.cli import app as app_module

CONFIG = """\
data: {name: digits, max_images: 400}
partition: {num_sites: 5}
model: {block_channels: [8, 16], attention: [false, false]}
training: {batch_size: 8, local_steps: 2}
federation: {rounds: 3}
sampling: {num_steps: 2}
evaluation: {num_images: 0}
output: {samples_every_rounds: 0, num_samples: 4}
device: cpu
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run one command in an empty folder; wide output, no colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["phoenix-secure", *arguments])
        code = app_module._run()
        captured = capsys.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def finished_run(cli: Callable[..., Outcome], config_file: Path, tmp_path: Path) -> Path:
    """A run folder with a model in it."""
    outcome = cli("run", str(config_file), "--run-dir", "done")
    assert outcome.code == 0, outcome.err
    return tmp_path / "done"
