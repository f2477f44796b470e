"""What each step of a ceremony takes, by the clock and by the processors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

__all__ = ["Row", "Steps", "cpu_seconds"]


def cpu_seconds() -> float:
    """Processor seconds of every process that can be seen here, and of those that they waited for.

    In a process namespace of its own that is all parties together: what a busy machine leaves
    unchanged, but for its caches.
    """
    total = 0.0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step: what was done, seconds of the clock and of processors, what came of it."""

    step: str
    seconds: float
    cpu_seconds: float
    what: str


@dataclass
class Steps:
    """The table of seconds; a step is said as soon as it is over."""

    say: Callable[[str], object]
    rows: list[Row] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a block, which appends to the list what came of it."""
        what: list[str] = []
        started, before = time.monotonic(), cpu_seconds()
        yield what
        row = Row(
            step=name,
            seconds=round(time.monotonic() - started, 1),
            cpu_seconds=round(cpu_seconds() - before, 1),
            what="; ".join(what),
        )
        self.rows.append(row)
        self.say(f"{row.seconds:7.1f} s, CPU {row.cpu_seconds:6.1f} s  {row.step}: {row.what}")
