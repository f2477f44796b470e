"""The site's own record of everything that was asked of it and what it did.

One JSON line for each event, on the disk before the answer leaves. Each line holds the SHA-256 of
the one before, so that a line changed, taken out or moved later is found; lines cut off at the
end are found by whoever kept a copy of the last hash (``phoenix-secure site log`` prints it).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from phoenix_secure.append_log import AppendLog
from phoenix_secure.errors import CheckpointError

__all__ = ["AuditLog"]

_FIRST = "0" * 64


class AuditLog:
    """The record at ``path``; made when it is not there yet."""

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)
        self._lock = threading.Lock()
        if not path.exists():
            self._log.create()
        self._last = _FIRST
        self._number = 0
        self._catch_up()

    @property
    def last_hash(self) -> str:
        """Names everything recorded so far; keep a copy elsewhere."""
        return self._last

    def record(self, event: str, **facts: Any) -> None:
        """Add one line. ``facts`` are plain values; nothing secret belongs here.

        Raises:     StorageError; the caller must then not answer.
        """
        with self._lock, self._log.locked():
            self._catch_up()
            line = {
                "number": self._number + 1,
                "time": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
                "event": event,
                **facts,
                "previous": self._last,
            }
            self._log.append(line)
            self._catch_up()

    def lines(self) -> list[dict[str, Any]]:
        """Every line, checked from the first one on.

        Raises:     CheckpointError naming the line that does not follow from the one before.
        """
        return _checked(AppendLog(self._log.path).read_new(), path=self._log.path)

    def _catch_up(self) -> None:
        for line in self._log.read_new():
            if line.get("previous") != self._last:
                raise _broken(self._log.path, self._number + 1)
            self._number += 1
            self._last = _hash(line)


def _checked(lines: list[dict[str, Any]], *, path: Path) -> list[dict[str, Any]]:
    last = _FIRST
    for number, line in enumerate(lines, start=1):
        if line.get("previous") != last or line.get("number") != number:
            raise _broken(path, number)
        last = _hash(line)
    return lines


def _hash(line: dict[str, Any]) -> str:
    text = json.dumps(line, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _broken(path: Path, number: int) -> CheckpointError:
    return CheckpointError(
        f"{path} was changed at line {number}: keep it as evidence, and start a new one elsewhere"
    )
