"""The evidence ledger: a file of JSON lines that only grows, each with the signed head after it.

A line is canonical JSON::

    {"entry": {"event", "facts", "index", "ledger", "time"}, "root": hex, "signature": base64}

``root`` is that of the Merkle tree over all entries up to this one, ``signature`` the server's over
that tree head. One line is one write and one fsync: an effect that waits for ``append`` never
happens without its entry.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import fcntl
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import PhoenixError
from phoenix_secure.evidence.canonical import NotCanonical, canonical, parse_canonical
from phoenix_secure.evidence.events import Event
from phoenix_secure.evidence.head import TreeHead
from phoenix_secure.evidence.merkle import GrowingRoot, leaf_hash
from phoenix_secure.files import storage_errors
from protocol import Identity

__all__ = ["Entry", "EvidenceError", "Ledger", "LedgerFile", "now", "read_ledger"]

_ENTRY_KEYS = {"event", "facts", "index", "ledger", "time"}
MAX_LINE_BYTES = 1 << 24


class EvidenceError(PhoenixError):
    """Evidence is missing, was changed, or does not belong together."""

    exit_code = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing that happened."""

    index: int
    time: str  # UTC, ISO 8601, by the server's clock
    event: str
    facts: dict[str, Any]
    ledger: str

    def to_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in sorted(_ENTRY_KEYS)}

    @property
    def leaf(self) -> bytes:
        """The entry's hash in the tree."""
        return leaf_hash(canonical(self.to_dict()))


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerFile:
    """A whole ledger, as read: every line follows from the ones before."""

    entries: tuple[Entry, ...]
    head: TreeHead
    signature: bytes
    server_key: bytes
    torn_bytes: int  # behind the last whole line: an entry whose effect never happened

    @property
    def id(self) -> str:
        return self.head.ledger

    def of(self, event: Event) -> list[Entry]:
        """All entries of one kind, oldest first."""
        return [entry for entry in self.entries if entry.event == event]


def now() -> str:
    """The time of an entry."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def read_ledger(path: Path, *, server_key: bytes | None = None) -> LedgerFile:
    """Read and check the ledger at ``path``.

    server_key   who must have signed it; by default the key that its first entry names, which
                 proves only that one party wrote all of it

    Raises:     EvidenceError naming the first line that does not hold.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"cannot read {path} ({error.strerror}): restore it") from error
    whole = content.rfind(b"\n") + 1
    tree = GrowingRoot()
    entries: list[Entry] = []
    head = signature = None
    key = server_key
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], start=1):
        try:
            entry, root, signature = _parse(line)
        except (ValueError, NotCanonical) as error:
            raise EvidenceError(f"{path}, line {number}: {error}") from error
        problem = _out_of_order(entry, entries)
        if number == 1 and problem is None:
            named = entry.facts.get("server_key")
            key = key or _key(named)
            problem = None if key and key.hex() == named else "the ledger names another server key"
        tree.append(entry.leaf)
        if problem is None and tree.root.hex() != root:
            problem = "the entry or one before it was changed (its root does not follow)"
        if problem is None:
            head = TreeHead(ledger=entry.ledger, size=tree.size, root=root)
            if key is None or not head.is_signed(signature, by=key):
                problem = "the tree head is not signed by the server's key"
        if problem is not None:
            raise EvidenceError(f"{path}, line {number}: {problem}")
        entries.append(entry)
    if head is None or signature is None or key is None:
        raise EvidenceError(f"{path} holds no entry: restore it, or start the run anew")
    return LedgerFile(
        entries=tuple(entries),
        head=head,
        signature=signature,
        server_key=key,
        torn_bytes=len(content) - whole,
    )


class Ledger:
    """The writer of the ledger at ``path``; ``create`` begins one.

    Raises:     EvidenceError when what is there does not hold. Only a line that a crash cut short
                is repaired, by dropping it: nobody has acted on it yet.
    """

    def __init__(self, path: Path, *, identity: Identity, clock: Callable[[], str] = now) -> None:
        self.path = path
        self._identity = identity
        self._clock = clock
        self._lock = threading.Lock()
        self._size_bytes = 0
        self._tree = GrowingRoot()
        self._id = ""
        if path.exists():
            self._load()

    @classmethod
    def create(cls, path: Path, *, identity: Identity, clock: Callable[[], str] = now) -> Ledger:
        """A new ledger whose first entry names it and the key that signs.

        Raises:     EvidenceError when there is one: evidence is never overwritten.
        """
        if path.exists() and path.stat().st_size > 0:
            raise EvidenceError(f"{path} is there already: evidence is never overwritten")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return cls(path, identity=identity, clock=clock)

    def _load(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        self._size_bytes = whole
        if whole == 0:
            # Killed in its very first line, or new: nothing was promised to anybody.
            self._id = secrets.token_hex(16)
            key = self._identity.public_key.hex()
            self.append(Event.OPENED, server_key=key, version=1)
            return
        found = read_ledger(self.path, server_key=self._identity.public_key)
        self._id = found.id
        for entry in found.entries:
            self._tree.append(entry.leaf)

    @property
    def id(self) -> str:
        """The ledger's random name."""
        return self._id

    @property
    def head(self) -> TreeHead:
        """The newest head."""
        return TreeHead(ledger=self._id, size=self._tree.size, root=self._tree.root.hex())

    def append(self, event: Event, **facts: Any) -> Entry:
        """Add an entry and wait until the disk has it; only then may its effect happen.

        Raises:     StorageError when it could not be written, EvidenceError when somebody else
                    wrote meanwhile, ValueError for facts that JSON cannot hold exactly. The entry
                    then does not count.
        """
        with self._lock:
            entry = Entry(
                index=self._tree.size,
                time=self._clock(),
                event=Event(event).value,
                facts=facts,
                ledger=self._id,
            )
            grown = self._tree.copy()
            grown.append(entry.leaf)
            head = TreeHead(ledger=self._id, size=grown.size, root=grown.root.hex())
            line = canonical(
                {
                    "entry": entry.to_dict(),
                    "root": head.root,
                    "signature": base64.b64encode(head.sign(self._identity)).decode(),
                }
            )
            if len(line) >= MAX_LINE_BYTES:
                raise ValueError("expected facts below 16 MiB")
            self._write(line + b"\n")
            self._tree = grown
            return entry

    def _write(self, line: bytes) -> None:
        with storage_errors(self.path), self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size < self._size_bytes:
                raise EvidenceError(f"{self.path} became shorter while in use: restore it")
            file.seek(self._size_bytes)
            if b"\n" in file.read():
                raise EvidenceError(f"{self.path} was written by another process: stop one of them")
            file.seek(self._size_bytes)
            file.truncate()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if self._size_bytes == 0:
            with storage_errors(self.path):
                folder = os.open(self.path.parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)
        self._size_bytes += len(line)


def _parse(line: bytes) -> tuple[Entry, str, bytes]:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("the line is too long")
    value = parse_canonical(line)
    if not isinstance(value, dict) or set(value) != {"entry", "root", "signature"}:
        raise ValueError("not a line of an evidence ledger")
    fields = value["entry"]
    if not isinstance(fields, dict) or set(fields) != _ENTRY_KEYS:
        raise ValueError("the entry's fields are not those of this version")
    texts = (fields["time"], fields["event"], fields["ledger"], value["root"], value["signature"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(fields["facts"], dict):
        raise ValueError("the entry's fields have other types")
    try:
        signature = base64.b64decode(value["signature"], validate=True)
    except binascii.Error as error:
        raise ValueError("the signature is not base64") from error
    if base64.b64encode(signature).decode() != value["signature"]:
        raise ValueError("the signature is not canonical base64")
    return Entry(**fields), value["root"], signature


def _out_of_order(entry: Entry, before: list[Entry]) -> str | None:
    if type(entry.index) is not int or entry.index != len(before):
        return f"entry {entry.index} stands where {len(before)} belongs (dropped or reordered)"
    if before and entry.ledger != before[0].ledger:
        return "the entry belongs to another ledger"
    if not before and entry.event != Event.OPENED:
        return "the first entry does not open a ledger"
    return None


def _key(text: Any) -> bytes | None:
    try:
        key = bytes.fromhex(text)
    except (TypeError, ValueError):
        return None
    return key if len(key) == 32 else None
