"""Files that are not whole yet: a copy under way, or one that was cut off with its stick.

Both look alike, and neither is an answer: they are waited for like a file that is not there yet.
Whoever copies files can be told after a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

__all__ = ["PartialCopies"]

_log = logging.getLogger(__name__)
# A file of gigabytes is hashed anew each time.
_AGAIN_S = 1.0
_WARN_AFTER_S = 60.0


class PartialCopies:
    """The partial files of one folder; ``where`` names it in the log."""

    def __init__(self, where: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._where = where
        self._clock = clock
        self._since: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._told: set[str] = set()

    def is_due(self, name: str) -> bool:
        """Whether to look at the file again."""
        return self._clock() >= self._next.get(name, 0.0)

    def found(self, name: str) -> None:
        """Note that a file was not whole; say so once, when it has been like that for a minute."""
        now = self._clock()
        since = self._since.setdefault(name, now)
        self._next[name] = now + _AGAIN_S
        if now - since >= _WARN_AFTER_S and name not in self._told:
            self._told.add(name)
            _log.warning(
                "%s of %s has not been whole for %.0f s: if no copy is under way, copy it again",
                name,
                self._where,
                now - since,
            )

    def keep(self, names: Iterable[str]) -> None:
        """Forget all files but those."""
        kept = set(names)
        self._since = {name: at for name, at in self._since.items() if name in kept}
        self._next = {name: at for name, at in self._next.items() if name in kept}
        self._told &= kept
