"""The rosters in a party's folder, read again when somebody put others there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_folder import read_rosters
from protocol import RosterChain

__all__ = ["HeldRosters", "roster_history"]


class HeldRosters:
    """Called for every request and every round: a file that did not change is not read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: tuple[tuple[int, ...], RosterChain] | None = None
        self._lock = threading.Lock()

    def __call__(self) -> RosterChain:
        """The rosters as they are now.

        Raises:     ConfigError when they are missing or not signed by the pinned owner.
        """
        path = self._folder / "roster.bin"
        with self._lock:
            try:
                found = path.stat()
            except OSError as error:
                raise ConfigError(f"{path} is missing: ask the federation's owner") from error
            # Replaced, never written to (``files.replace_file``): a new file is another inode.
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._held is None or self._held[0] != stamp:
                self._held = stamp, read_rosters(self._folder)
            return self._held[1]


def roster_history(chain: RosterChain) -> dict[str, Any]:
    """The epoch of the roster in force, and what changed in each since the first."""
    changes = [
        f"epoch {roster.epoch}: {', '.join(map(str, roster.changes))}"
        for roster in chain.rosters[1:]
    ]
    return {"epoch": chain.current.epoch, "changes": changes}
