"""The site's own record of everything that was asked of it and what it did.

One JSON line for each event, on the disk before the answer leaves. Each line holds the SHA-256 of
the one before, so that a line changed, taken out or moved later is found; lines cut off at the
end are found by whoever kept a copy of the last hash (``phoenix-secure site log`` prints it).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import CheckpointError
from phoenix_secure.journal import Journal, create_file, json_line, json_object

__all__ = ["AuditLog"]

_FIRST = "0" * 64


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """``facts`` are the time, the event and what it was about."""

    number: int
    previous: str
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number, **self.facts, "previous": self.previous}


class _Chain(Journal[_Line]):
    """Lines that each hold the hash of the one before."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, (_encode, _decode), check=self._check_line, follow=self._add_line)
        self.last_hash = _FIRST

    def _check_line(self, line: _Line) -> None:
        number = self.num_records + 1
        if line.previous != self.last_hash or line.number != number:
            raise CheckpointError(
                f"{self.path} was changed at line {number}: keep it as evidence, and start a new "
                "one elsewhere"
            )

    def _add_line(self, line: _Line) -> None:
        self.last_hash = hashlib.sha256(_encode(line)).hexdigest()


class AuditLog:
    """The record at ``path``; made when it is not there yet."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            create_file(path)
        self._chain = _Chain(path)
        self._chain.read_new()

    @property
    def last_hash(self) -> str:
        """Names everything recorded so far; keep a copy elsewhere."""
        return self._chain.last_hash

    def record(self, event: str, **facts: Any) -> None:
        """Add one line. ``facts`` are plain values; nothing secret belongs here.

        Raises:     StorageError; the caller must then not answer.
        """
        with self._chain.caught_up():
            time = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
            self._chain.append(
                _Line(
                    number=self._chain.num_records + 1,
                    previous=self._chain.last_hash,
                    facts={"time": time, "event": event, **facts},
                )
            )

    def lines(self) -> list[dict[str, Any]]:
        """Every line, checked from the first one on.

        Raises:     CheckpointError naming the line that does not follow from the one before.
        """
        return [line.to_dict() for line in _Chain(self._chain.path).read_new()]


def _encode(line: _Line) -> bytes:
    return json_line(line.to_dict())


def _decode(line: bytes) -> _Line:
    facts = json_object(line)
    return _Line(number=facts.pop("number", 0), previous=facts.pop("previous", ""), facts=facts)
