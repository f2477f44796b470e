"""Tells whoever listens how far the reading of images has come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["Listener", "report", "reporting"]

Listener = Callable[[str, int, int], object]
"""Called with what is done ("reading pictures"), how many are done, and how many there are."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_EVERY = 256


@contextlib.contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Within it, ``listener`` hears of every reading of this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(step: str, done: int, total: int) -> None:
    """Tell the listener, every few hundred images and at the end."""
    listener = _listener.get()
    if listener is not None and (done % _EVERY == 0 or done == total):
        listener(step, done, total)
