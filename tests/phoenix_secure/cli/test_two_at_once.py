"""A second process meets a run that is still being set up, and destroys nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from warm_processes import CommandProcess


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_run_that_is_being_set_up_is_left_alone(
    cli: Callable[..., Any], config_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["run", str(config_file), "--run-dir", str(run)]
    # Where it has written its keys and no checkpoint yet.
    first = CommandProcess(
        *command, output=tmp_path / "printed", environ=os.environ, stops_at="split.npz"
    )
    try:
        while not first.is_stopped():
            assert first.poll() is None, first.printed
            time.sleep(0.01)
        before = content(run)
        assert str(run / "server" / "identity.key") in before
        for second in ([*command, "--overwrite"], command, ["resume", str(run)]):
            outcome = cli(*second)
            assert outcome.code != 0
            assert "another process is working in" in outcome.err
            assert content(run) == before
        first.send_signal(signal.SIGCONT)
        assert first.wait() == 0, first.printed
    finally:
        first.send_signal(signal.SIGKILL)
    assert (run / "summary.json").exists()
