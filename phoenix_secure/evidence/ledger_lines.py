"""A ledger's lines: an entry each, with the root and the signature of the head after it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import PhoenixError
from phoenix_secure.evidence.canonical import canonical, parse_canonical
from phoenix_secure.evidence.events import Event
from phoenix_secure.evidence.head import Scope, TreeHead
from phoenix_secure.evidence.merkle import MerkleTree, leaf_hash
from phoenix_secure.journal import Journal
from protocol import Identity
from protocol.identity import suite_of_key

__all__ = ["Entry", "EvidenceError", "LedgerJournal", "Line"]

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

    @property
    def round_begun(self) -> int:
        """The training round that begins here, 0 for every other entry."""
        number = self.facts.get("round") if self.event == Event.ROUND_STARTED else 0
        return number if type(number) is int else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """An entry, and the root and signature of the head after it."""

    entry: Entry
    leaf: bytes
    root: str
    signature: bytes


class LedgerJournal(Journal[Line]):
    """The lines of a ledger: each follows from those before it, under one key and one scope."""

    def __init__(self, path: Path, *, server_key: bytes | None = None) -> None:
        super().__init__(path, (_encode, _decode), check=self._check_line, follow=self._add_line)
        self.server_key = server_key
        self.tree = MerkleTree()
        self._scope: Scope | None = None
        self.ledger = ""
        self._round = 0

    @property
    def head(self) -> TreeHead:
        """The head after the lines so far, of which there must be one."""
        return TreeHead(
            ledger=self.ledger,
            size=self.tree.size,
            root=self.tree.root().hex(),
            scope=self._scope,
            round=self._round,
        )

    def signed(self, entry: Entry, *, identity: Identity) -> Line:
        """The line of ``entry``, to be appended next."""
        leaf = entry.leaf
        head = self._head_with(entry, root=self.tree.root_with(leaf).hex())
        return Line(entry=entry, leaf=leaf, root=head.root, signature=head.sign(identity))

    def _head_with(self, entry: Entry, *, root: str) -> TreeHead:
        scope = self._scope if self.tree.size else _scope_of(entry)
        return TreeHead(
            ledger=entry.ledger,
            size=entry.index + 1,
            root=root,
            scope=scope,
            round=0 if scope is None else max(self._round, entry.round_begun),
        )

    def _check_line(self, line: Line) -> None:
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
        elif entry.ledger != self.ledger:
            raise ValueError("the entry belongs to another ledger")
        if self.tree.root_with(line.leaf).hex() != line.root:
            raise ValueError("the entry or one before it was changed (its root does not follow)")
        head = self._head_with(entry, root=line.root)
        if self.server_key is None or not head.is_signed(line.signature, by=self.server_key):
            raise ValueError("the tree head is not signed by the server's key")
        self._check_plan(entry)

    def _check_plan(self, entry: Entry) -> None:
        if entry.event != Event.PLAN or self._scope is None:
            return
        if entry.facts.get("sha256") != self._scope.plan:
            raise ValueError("the ledger names another plan than its heads")

    def _add_line(self, line: Line) -> None:
        head = self._head_with(line.entry, root=line.root)
        self.tree.append(line.leaf)
        self.ledger, self._scope, self._round = head.ledger, head.scope, head.round

    def damaged(self, problem: object) -> EvidenceError:
        return EvidenceError(f"{self.path}, line {self.num_records + 1}: {problem}")

    def changed(self, how: str) -> EvidenceError:
        return EvidenceError(f"{self.path} {how}")

    def unreadable(self, error: OSError) -> EvidenceError:
        return EvidenceError(f"cannot read {self.path} ({error.strerror}): restore it")


def _encode(line: Line) -> bytes:
    signature = base64.b64encode(line.signature).decode()
    data = canonical({"entry": line.entry.to_dict(), "root": line.root, "signature": signature})
    if len(data) >= MAX_LINE_BYTES:
        raise ValueError("expected facts below 16 MiB")
    return data


def _decode(line: bytes) -> Line:
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
    return Line(entry=entry, leaf=entry.leaf, root=value["root"], signature=signature)


def _scope_of(opened: Entry) -> Scope | None:
    """The run that a ledger's first entry names; None where version 0.1.0 opened it.

    Raises:     ValueError.
    """
    facts = opened.facts
    if facts.get("version") == 1:
        return None
    if facts.get("version") != 2 or not {"federation", "plan", "nonce"} <= set(facts):
        raise ValueError("expected a ledger of version 1 or 2: update this program")
    return Scope(federation=facts["federation"], plan=facts["plan"], nonce=facts["nonce"])


def _key(text: Any) -> bytes | None:
    try:
        key = bytes.fromhex(text)
    except (TypeError, ValueError):
        return None
    return key if suite_of_key(key) is not None else None
