"""Child processes that are started again when they die and never outlive their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Child", "Supervisor", "die_with_parent"]

_PR_SET_PDEATHSIG = 1
_STABLE_S = 30.0


def die_with_parent() -> None:
    """Ask the system to end this process when its parent dies (Linux; elsewhere a no-op)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """One program to keep alive; its output goes to ``log``."""

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(repr=False)
    log: Path


class Supervisor:
    """Starts children, starts them again with growing pauses, stops them in reverse order."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        say: Callable[[str], object],
        first_pause_s: float = 1.0,
        longest_pause_s: float = 15.0,
    ) -> None:
        self._children = list(children)
        self._say = say
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def start(self) -> None:
        """Start every child."""
        for child in self._children:
            self._start(child)

    def check(self) -> list[str]:
        """Start again what has died; the names of the children that were started now."""
        now = time.monotonic()
        restarted = []
        for child in self._children:
            process = self._running.get(child.name)
            if process is not None and process.poll() is not None:
                del self._running[child.name]
                lasted = now - self._started[child.name]
                pause = self._pauses.get(child.name, self._first_pause_s)
                if lasted > _STABLE_S:
                    pause = self._first_pause_s
                self._pauses[child.name] = min(pause * 2, self._longest_pause_s)
                self._due[child.name] = now + pause
                self._say(
                    f"{child.name} ended with {process.returncode} after {lasted:.0f} s; "
                    f"again in {pause:.0f} s (see {child.log}){_last_line(child.log)}"
                )
            elif process is None and now >= self._due.get(child.name, 0.0):
                self._start(child)
                restarted.append(child.name)
        return restarted

    def stop(self, *, patience_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL for what is still there after ``patience_s``."""
        for child in reversed(self._children):
            process = self._running.pop(child.name, None)
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(child.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        with contextlib.closing(os.fdopen(handle, "ab")) as log:
            self._running[child.name] = subprocess.Popen(  # noqa: S603 - a fixed list of arguments
                list(child.command),
                env=child.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started[child.name] = time.monotonic()


def _last_line(log: Path) -> str:
    """The last line of a log, which mostly says why a program ended."""
    with contextlib.suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
        found = [" ".join(line.split()) for line in lines if line.strip()]
        return f": {found[-1][:200]}" if found else ""
    return ""
