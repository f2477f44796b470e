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
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import PhoenixError
from phoenix_secure.evidence.canonical import canonical, parse_canonical
from phoenix_secure.evidence.events import Event
from phoenix_secure.evidence.head import TreeHead
from phoenix_secure.evidence.merkle import MerkleTree, leaf_hash
from phoenix_secure.journal import Journal, create_file
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
    tree: MerkleTree
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
    journal = _LedgerJournal(path, server_key=server_key)
    lines = journal.read_new()
    if not lines or journal.server_key is None:
        raise EvidenceError(f"{path} holds no entry: restore it, or start the run again")
    return LedgerFile(
        entries=tuple(line.entry for line in lines),
        tree=journal.tree,
        head=lines[-1].head,
        signature=lines[-1].signature,
        server_key=journal.server_key,
        torn_bytes=journal.torn_bytes,
    )


class Ledger:
    """The writer of the ledger at ``path``; ``create`` begins one.

    Reads and checks the file once, and keeps the tree's hashes from then on.

    Raises:     EvidenceError when what is there does not hold. Only a line that a crash cut short
                is repaired, by dropping it: nobody has acted on it yet.
    """

    def __init__(self, path: Path, *, identity: Identity, clock: Callable[[], str] = now) -> None:
        self.path = path
        self._identity = identity
        self._clock = clock
        self._lock = threading.Lock()
        self._journal = _LedgerJournal(path, server_key=identity.public_key)
        if lines := self._journal.read_new():
            self._id = lines[0].entry.ledger
        else:
            # Killed in its very first line, or new: nothing was promised to anybody.
            self._id = secrets.token_hex(16)
            self.append(Event.OPENED, server_key=identity.public_key.hex(), version=1)

    @classmethod
    def create(cls, path: Path, *, identity: Identity, clock: Callable[[], str] = now) -> Ledger:
        """A new ledger whose first entry names it and the key that signs.

        Raises:     EvidenceError when there is one: evidence is never overwritten.
        """
        if path.exists() and path.stat().st_size > 0:
            raise EvidenceError(f"{path} is there already: evidence is never overwritten")
        if not path.exists():
            create_file(path, mode=0o666)
        return cls(path, identity=identity, clock=clock)

    @property
    def id(self) -> str:
        """The ledger's random name."""
        return self._id

    @property
    def head(self) -> TreeHead:
        """The newest head."""
        with self._lock:
            tree = self._journal.tree
            return TreeHead(ledger=self._id, size=tree.size, root=tree.root().hex())

    def consistency_proof(self, old_size: int, *, size: int) -> list[bytes]:
        """Proof that the first ``size`` entries begin with the first ``old_size``, from memory."""
        with self._lock:
            return self._journal.tree.consistency_proof(old_size, size=size)

    def append(self, event: Event, **facts: Any) -> Entry:
        """Add an entry and wait until the disk has it; only then may its effect happen.

        Raises:     StorageError when it could not be written, EvidenceError when somebody else
                    wrote meanwhile, ValueError for facts that JSON cannot hold exactly. The entry
                    then does not count.
        """
        with self._lock:
            tree = self._journal.tree
            entry = Entry(
                index=tree.size,
                time=self._clock(),
                event=Event(event).value,
                facts=facts,
                ledger=self._id,
            )
            leaf = entry.leaf
            root = tree.root_with(leaf).hex()
            head = TreeHead(ledger=self._id, size=tree.size + 1, root=root)
            line = _Line(entry=entry, leaf=leaf, root=root, signature=head.sign(self._identity))
            with self._journal.locked():
                self._journal.append(line)
            return entry


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """An entry, and the signed head after it."""

    entry: Entry
    leaf: bytes
    root: str
    signature: bytes

    @property
    def head(self) -> TreeHead:
        return TreeHead(ledger=self.entry.ledger, size=self.entry.index + 1, root=self.root)


class _LedgerJournal(Journal[_Line]):
    """The lines of a ledger: each follows from those before it, under one key."""

    def __init__(self, path: Path, *, server_key: bytes | None = None) -> None:
        super().__init__(path, (_encode, _decode), check=self._check_line, follow=self._add_line)
        self.server_key = server_key
        self.tree = MerkleTree()
        self._ledger = ""

    def _check_line(self, line: _Line) -> None:
        entry, size = line.entry, self.tree.size
        if type(entry.index) is not int or entry.index != size:
            raise ValueError(
                f"entry {entry.index} stands where {size} belongs (dropped or reordered)"
            )
        if size == 0:
            if entry.event != Event.OPENED:
                raise ValueError("the first entry does not open a ledger")
            named = entry.facts.get("server_key")
            self.server_key = self.server_key or _key(named)
            if self.server_key is None or self.server_key.hex() != named:
                raise ValueError("the ledger names another server key")
        elif entry.ledger != self._ledger:
            raise ValueError("the entry belongs to another ledger")
        if self.tree.root_with(line.leaf).hex() != line.root:
            raise ValueError("the entry or one before it was changed (its root does not follow)")
        if self.server_key is None or not line.head.is_signed(line.signature, by=self.server_key):
            raise ValueError("the tree head is not signed by the server's key")

    def _add_line(self, line: _Line) -> None:
        self.tree.append(line.leaf)
        self._ledger = line.entry.ledger

    def damaged(self, problem: object) -> EvidenceError:
        return EvidenceError(f"{self.path}, line {self.num_records + 1}: {problem}")

    def changed(self, how: str) -> EvidenceError:
        return EvidenceError(f"{self.path} {how}")

    def unreadable(self, error: OSError) -> EvidenceError:
        return EvidenceError(f"cannot read {self.path} ({error.strerror}): restore it")


def _encode(line: _Line) -> bytes:
    signature = base64.b64encode(line.signature).decode()
    data = canonical({"entry": line.entry.to_dict(), "root": line.root, "signature": signature})
    if len(data) >= MAX_LINE_BYTES:
        raise ValueError("expected facts below 16 MiB")
    return data


def _decode(line: bytes) -> _Line:
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
    entry = Entry(**fields)
    return _Line(entry=entry, leaf=entry.leaf, root=value["root"], signature=signature)


def _key(text: Any) -> bytes | None:
    try:
        key = bytes.fromhex(text)
    except (TypeError, ValueError):
        return None
    return key if len(key) == 32 else None
