"""A line on the terminal while many images are read."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from phoenix_secure.data.reading_progress import reporting

__all__ = ["told_on_terminal"]

_PATIENCE_S = 1.0


@contextlib.contextmanager
def told_on_terminal() -> Iterator[None]:
    """Within it, readings that take more than a second show how far they are, where a person
    looks: never in a log file or a pipe."""
    begun: dict[str, float] = {}

    def tell(step: str, done: int, total: int) -> None:
        started = begun.setdefault(step, time.monotonic())
        if done == total:
            clear()
        elif time.monotonic() - started >= _PATIENCE_S:
            sys.stderr.write(f"\r{step}: {done:,} of {total:,}")
            sys.stderr.flush()

    def clear() -> None:
        begun.clear()
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()

    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    with reporting(tell):
        try:
            yield
        finally:
            if begun:
                clear()
