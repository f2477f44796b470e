"""Processes of the command line that need not import torch first.

A fresh interpreter spends seconds on imports before it reaches what a test is about. These are
forks of one interpreter that holds the imports and nothing else (``multiprocessing``'s fork
server): processes of their own, with a pid to stop, kill and wait for.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

__all__ = ["CommandProcess", "loaded_with"]

PRELOAD = ["phoenix_secure.cli.session", "phoenix_secure.federation.simulation.simulated_sites"]


class CommandProcess:
    """``phoenix-secure ARGUMENTS``, started; what it prints goes to the file ``output``.

    With ``stops_at`` it sends itself SIGSTOP when it first opens a file of that name.
    """

    def __init__(
        self,
        *arguments: object,
        output: Path,
        environ: Mapping[str, str],
        stops_at: str | None = None,
    ) -> None:
        self._output = output
        words = [str(argument) for argument in arguments]
        self._process = _fork_server().Process(
            target=_command, args=(words, str(output), dict(environ), stops_at)
        )
        self._process.start()

    @property
    def printed(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, *, timeout_s: float = 300) -> int:
        self._process.join(timeout_s)
        code = self._process.exitcode
        assert code is not None, f"still running after {timeout_s} s"
        return code

    def send_signal(self, number: int) -> None:
        """A process that has ended gets none."""
        if self.poll() is None and (pid := self._process.pid) is not None:
            os.kill(pid, number)

    def is_stopped(self) -> bool:
        """Whether SIGSTOP holds it (Linux)."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"


def loaded_with(module: str, *, output: Path) -> set[str]:
    """Names of all modules that a process holds after it has imported ``module``."""
    process = _fork_server().Process(target=_write_loaded, args=(module, str(output)))
    process.start()
    process.join(300)
    assert process.exitcode == 0, f"{module} was not imported: exit code {process.exitcode}"
    return set(output.read_text().split())


def _write_loaded(module: str, output: str) -> None:
    importlib.import_module(module)
    Path(output).write_text("\n".join(sys.modules))


def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # it has no effect once the server runs
    return context


def _command(
    arguments: list[str], output: str, environ: dict[str, str], stops_at: str | None
) -> None:
    """In the new process: what the console script does."""
    handle = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.environ.clear()
    os.environ.update(environ)
    # A test run in the background ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if stops_at is not None:
        _stop_at(stops_at)

    from phoenix_secure.cli import main

    sys.argv = ["phoenix-secure", *arguments]
    main()


def _stop_at(name: str) -> None:
    stopped: list[bool] = []

    def stop(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and name in str(args[0]) and not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(stop)
