"""A site's memory held against its own audit log: promises, ledger and keys that must not get lost.

A site that forgets what it signed can be asked again; one that makes a new key enters another input
when a round is repeated. So with each answer the audit log notes how long each file of promises is
and the hash of that much of it, and the hash of each key. A file that is missing later on, shorter,
or another one stops the site before it makes a new one. Files may be longer than noted: a crash
between a promise and its line in the log loses nothing.

A folder that was restored *whole* agrees with itself. Against that stands the site's own signature
under a later model, which an honest server hands back (``SecureSite``); it is noted in the log, and
stops the site likewise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.files import storage_errors

__all__ = ["CLOSED", "FORGOTTEN", "KeptFiles", "has_promises"]

CLOSED = "plans closed"  # by `site close-plans`
FORGOTTEN = "promise forgotten"  # a signature came back that the site does not remember
_JOURNALS = ("rounds/*.jsonl", "heads/*.jsonl", "signed-models.jsonl", "privacy.jsonl")
_KEYS = ("training.key", "split.key", "privacy.key")
_BEGUN = ("approved", "ready", "answered")
_LABEL = b"phoenix-secure/kept-file/v1:"


@dataclass(frozen=True, slots=True)
class _Mark:
    """The first ``size`` bytes of a file, by their hash."""

    size: int
    digest: str


class KeptFiles:
    """The files in a site's ``folder``, and what ``audit`` said of them when this was made.

    Raises:     CheckpointError for an audit log that was changed.
    """

    def __init__(self, folder: Path, *, audit: AuditLog) -> None:
        self._folder = folder
        self._audit = audit
        self._marks: dict[str, _Mark] = {}
        self._hashed: dict[str, hashlib._Hash] = {}  # of the marks that this object made
        self._forgotten: list[tuple[str, int]] = []  # plan, training round
        self._begun: set[str] = set()
        self.closed: frozenset[str] = frozenset()
        for line in audit.lines():
            self._follow(line)

    def _follow(self, line: dict[str, Any]) -> None:
        event = line.get("event")
        if event in _BEGUN and isinstance(line.get("plan"), str):
            self._begun.add(line["plan"])
        if event == FORGOTTEN:
            self._forgotten.append((line["plan"], line["round"]))
        if event == CLOSED:
            self.closed |= set(line["plans"])
            self._marks, self._forgotten = {}, []
        for name, (size, digest) in line.get("kept", {}).items():
            self._marks[name] = _Mark(size, digest)

    def news(self) -> dict[str, Any]:
        """Facts for the log's next line: files that appeared or grew since an earlier one."""
        found = {}
        for path in _paths(self._folder):
            name = path.relative_to(self._folder).as_posix()
            known = self._marks.get(name)
            # A key never changes; what is shorter, or another file, is for ``lost`` to find.
            if known is not None and (name in _KEYS or path.stat().st_size <= known.size):
                continue
            mark = self._grown(name, path)
            if mark is not None:
                found[name] = self._marks[name] = mark
        return {"kept": {k: [m.size, m.digest] for k, m in found.items()}} if found else {}

    def _grown(self, name: str, path: Path) -> _Mark | None:
        """The mark of a file that has grown, by what is new of it; None where nothing counts."""
        known = self._marks.get(name, _Mark(0, ""))
        if name not in self._hashed:
            if known.size and _mark(path, size=known.size) != known:
                return None
            self._hashed[name] = _hash_of(_read(path, 0)[: known.size])
        new = _whole(path, _read(path, known.size))
        if not new:
            return None
        self._hashed[name].update(new)
        return _Mark(known.size + len(new), self._hashed[name].hexdigest())

    def lost(self) -> list[str]:
        """What is not as the log says, in words; empty where all is."""
        found = []
        for name, mark in sorted(self._marks.items()):
            now = _mark(self._folder / name)
            if now is None:
                found.append(f"{name} is missing or empty")
            elif now.size < mark.size:
                found.append(f"{name} is an old copy ({now.size} bytes, and had {mark.size})")
            elif _mark(self._folder / name, size=mark.size) != mark:
                found.append(f"{name} is another one than before")
        for plan, number in self._forgotten:
            path = self._folder / "rounds" / f"{plan}.jsonl"
            if not path.exists() or not SiteRecord(path).has_signed(number):
                found.append(f"rounds/{path.name} is an old copy (this site signed round {number})")
        return found

    def check(self) -> None:
        """Refuse to go on where something is lost.

        Raises:     CheckpointError naming the files and what to do.
        """
        lost = self.lost()
        if lost:
            raise CheckpointError(f"{self._folder} lost what it had: {'; '.join(lost)}: {_WAY_ON}")

    def close_plans(self) -> tuple[str, ...]:
        """End every plan that this folder knows, for ever; returns their hashes.

        What is there of the files counts from now on. Approvals go, so that a site that is running
        stops too.
        """
        places = ("plans", "approvals", "rounds", "heads", "memory", "releases")
        names = {path.stem for place in places for path in (self._folder / place).glob("*")}
        plans = sorted(name for name in names | self._begun | self.closed if _is_hash(name))
        why = "; ".join(self.lost()) or "nothing was found to be missing"
        self._marks, self._hashed = {}, {}
        self._audit.record(CLOSED, plans=plans, why=why, **self.news())
        self.closed = frozenset(plans)
        for plan in plans:
            path = self._folder / "approvals" / f"{plan}.json"
            with storage_errors(path):
                path.unlink(missing_ok=True)
        return tuple(plans)


_WAY_ON = (
    "restore the newest copy; if there is none, `phoenix-secure site close-plans` ends the plans "
    "begun so far, and the site goes on with new ones"
)


def has_promises(folder: Path) -> bool:
    """Whether a file in ``folder`` says that this site ever promised anything."""
    return any(path.stat().st_size > 0 for path in _paths(folder) if path.name not in _KEYS)


def _paths(folder: Path) -> list[Path]:
    return [path for pattern in (*_JOURNALS, *_KEYS) for path in sorted(folder.glob(pattern))]


def _mark(path: Path, *, size: int | None = None) -> _Mark | None:
    """Of whole lines, or of a whole key; of the first ``size`` bytes; None for nothing."""
    content = _read(path, 0)
    content = _whole(path, content) if size is None else content[:size]
    return _Mark(len(content), _hash_of(content).hexdigest()) if content else None


def _hash_of(content: bytes) -> hashlib._Hash:
    return hashlib.sha256(_LABEL + content)


def _whole(path: Path, content: bytes) -> bytes:
    """A key as it is; of a journal, the lines that have an end."""
    return content if path.name in _KEYS else content[: content.rfind(b"\n") + 1]


def _read(path: Path, start: int) -> bytes:
    """From byte ``start`` on; nothing where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: change its permissions") from error


def _is_hash(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")
