"""Keeps the newest of the values that several sites of one process ask for.

A simulation's sites take the same step from the same sum and train from the same model. Each is
made once for all of them, and found by the digests of what goes in: whoever asks gets his own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Newest"]

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Newest(Generic[_Key, _Value]):
    """One value and its key; threads that ask for the same one wait for whoever makes it."""

    def __init__(self) -> None:
        self._kept: tuple[_Key, _Value] | None = None
        self._lock = threading.Lock()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """The value of ``key``, made where it is not the newest; what ``make`` raises is kept not.

        Guarantee:  the value before is dropped only once its successor is there.
        """
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                self._kept = key, make()
            return self._kept[1]
