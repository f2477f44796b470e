"""A finished run goes on to more rounds, to the weights of one that had so many from the start."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import phoenix_secure as ps
from command_line import phoenix
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.evidence import Event
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder

# A cosine over more rounds is another learning rate in each of them.
CONSTANT = "training.lr_decay=none"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, secure_settings: list[str]) -> Path:
    """A finished secure run of one round. Never change it: copy it."""
    folder = tmp_path_factory.mktemp("short") / "run"
    settings = [*secure_settings, CONSTANT, "federation.rounds=1"]
    ps.run(None, *settings, run_dir=folder, progress=False)
    return folder


@pytest.mark.long
def test_an_extended_run_has_the_weights_of_a_longer_one(
    short: Path, secure_settings: list[str], tmp_path: Path
) -> None:
    shutil.copytree(short, tmp_path / "run")
    done = ps.resume(tmp_path / "run", rounds=2, progress=False)
    settings = [*secure_settings, CONSTANT, "federation.rounds=2"]
    ps.run(None, *settings, run_dir=tmp_path / "two", progress=False)
    states = [
        RunFolder(path).load_state(config=RunFolder(path).load_config())
        for path in (tmp_path / "run", tmp_path / "two")
    ]

    assert done.summary.rounds == 2
    assert np.array_equal(states[0].parameters, states[1].parameters)
    assert np.array_equal(states[0].ema, states[1].ema)
    (entry,) = read_ledger(ledger_file(tmp_path / "run")).of(Event.RESUMED)
    assert entry.facts == {"round": 1, "rounds": 2}
    # Config, evidence and the sites' signatures still belong together.
    report = ps.report(tmp_path / "run", pdf=False).folder
    words = ["--roster", str(tmp_path / "run" / "roster.bin"), "--evidence", str(tmp_path / "run")]
    checked = phoenix("verify", str(report / "report.json"), *words)
    assert checked.code == 0, checked.out


def test_fewer_rounds_and_damaged_files_are_refused(short: Path, tmp_path: Path) -> None:
    shutil.copytree(short, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match="the run has 1 already"):
        folder.extend(1)
    (folder.path / "extended.json").write_text('{"rounds": "many"}')
    with pytest.raises(CheckpointError, match=r"extended\.json is damaged"):
        folder.load_config()


@pytest.mark.long
def test_noise_made_for_fewer_rounds_is_not_stretched(
    tiny_settings: list[str], tmp_path: Path
) -> None:
    private = ["privacy.unit=record", "privacy.epsilon=8", "privacy.delta=1e-4"]
    settings = [*tiny_settings, *private, "privacy.sampling_rate=0.2", "federation.rounds=1"]
    ps.run(None, *settings, run_dir=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match=r"model\.init_from=RUN_DIR"):
        ps.resume(tmp_path / "run", rounds=2)
    assert not (tmp_path / "run" / "extended.json").exists()
