"""The rosters in a party's folder: read again when somebody put others there, and replaced by those
that go on from them alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_folder import pinned_owner, read_rosters
from phoenix_secure.files import write_bytes
from protocol import RemoteProtocolError, Roster, RosterChain, Succession

__all__ = ["HeldRosters", "require_successor", "roster_history", "take_rosters"]


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


def require_successor(held: RosterChain, offered: RosterChain) -> None:
    """Refuse rosters that do not go on from those held; the same ones are fine.

    Raises:     ConfigError that says whether they are older or another history.
    """
    match held.compare(offered):
        case Succession.OLDER:
            raise ConfigError(
                f"rollback: these rosters end with epoch {offered.current.epoch}, and epoch "
                f"{held.current.epoch} is in force here: ask the owner for the newest welcome"
            )
        case Succession.FORKED:
            epoch = next(
                ours.epoch
                for ours, theirs in zip(held.rosters, offered.rosters, strict=False)
                if ours.hash != theirs.hash
            )
            raise ConfigError(
                f"fork: this is another roster of epoch {epoch} than the one here, and the owner's "
                "key signed both: do not use it; compare the words of `show` with other parties "
                "and with the owner, whose folder may be an old copy or in other hands"
            )


def take_rosters(folder: Path, data: bytes) -> tuple[Roster, ...]:
    """Put the rosters in ``data`` in the place of those in ``folder``; returns the new ones.

    Guarantee:  ``folder`` is changed in one step, and only by what the pinned owner signed and goes
                on from what lies there.
    Raises:     ConfigError; StorageError.
    """
    held = read_rosters(folder)
    try:
        offered = RosterChain.load(data, owner_key=pinned_owner(folder))
    except RemoteProtocolError as error:
        raise ConfigError(
            f"the offered rosters are not those of the pinned owner ({error.detail})"
        ) from error
    require_successor(held, offered)
    new = offered.rosters[len(held.rosters) :]
    if new:
        write_bytes(folder / "roster.bin", offered.to_bytes())
    return new
