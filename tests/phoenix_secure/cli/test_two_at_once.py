"""A second process meets a run that is still being set up, and destroys nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The run stops itself before it writes its split: keys are there, a checkpoint is not.
_STOPPED_RUN = """
import os, signal, sys

from phoenix_secure.cli import main


def stop(event, args):
    if event == "open" and "split.npz" in str(args[0]) and not stopped:
        stopped.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)


stopped = []
sys.addaudithook(stop)
sys.argv[0] = "phoenix-secure"
main()
"""


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_run_that_is_being_set_up_is_left_alone(
    cli: Callable[..., Any], config_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["run", str(config_file), "--run-dir", str(run)]
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED_RUN, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        before = content(run)
        assert str(run / "server" / "identity.key") in before
        for second in ([*command, "--overwrite"], command, ["resume", str(run)]):
            outcome = cli(*second)
            assert outcome.code != 0
            assert "another process is working in" in outcome.err
            assert content(run) == before
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    finally:
        process.kill()
    assert (run / "summary.json").exists()
