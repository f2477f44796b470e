"""The evidence ledger: a file of JSON lines that only grows, each with the signed head after it.

A line is canonical JSON::

    {"entry": {"event", "facts", "index", "ledger", "time"}, "root": hex, "signature": base64}

``root`` is that of the Merkle tree over all entries up to this one, ``signature`` the server's over
that tree head. One line is one write and one fsync: an effect that waits for ``append`` never
happens without its entry.

The first entry names the run (``Scope``) that every head after it names, too. A ledger that version
0.1.0 began names none; it is read, and goes on, as such.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.evidence.events import Event
from phoenix_secure.evidence.head import Scope, TreeHead
from phoenix_secure.evidence.ledger_lines import Entry, EvidenceError, LedgerJournal
from phoenix_secure.evidence.merkle import MerkleTree
from phoenix_secure.journal import create_file
from protocol import Identity

__all__ = ["Entry", "EvidenceError", "Ledger", "LedgerFile", "now", "read_ledger"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerFile:
    """A whole ledger, as read: every line follows from the ones before.

    rounds    after each entry, the last training round that was begun
    """

    entries: tuple[Entry, ...]
    rounds: tuple[int, ...]
    tree: MerkleTree
    head: TreeHead
    signature: bytes
    server_key: bytes
    torn_bytes: int  # behind the last whole line: an entry whose effect never happened

    @property
    def id(self) -> str:
        return self.head.ledger

    def head_at(self, size: int) -> TreeHead:
        """The head after the first ``size`` entries.

        Raises:     ValueError for more than there are.
        """
        scope = self.head.scope
        return TreeHead(
            ledger=self.id,
            size=size,
            root=self.tree.root(size).hex(),
            scope=scope,
            round=0 if scope is None or size == 0 else self.rounds[size - 1],
        )

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
    journal = LedgerJournal(path, server_key=server_key)
    lines = journal.read_new()
    if not lines or journal.server_key is None:
        raise EvidenceError(f"{path} holds no entry: restore it, or start the run again")
    entries = tuple(line.entry for line in lines)
    return LedgerFile(
        entries=entries,
        rounds=tuple(itertools.accumulate((each.round_begun for each in entries), max)),
        tree=journal.tree,
        head=journal.head,
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
        self._journal = LedgerJournal(path, server_key=identity.public_key)
        if not self._journal.read_new():
            raise EvidenceError(f"{path} holds no entry: restore it, or start the run again")

    @classmethod
    def create(
        cls, path: Path, *, identity: Identity, scope: Scope, clock: Callable[[], str] = now
    ) -> Ledger:
        """A new ledger whose first entry names the run and the key that signs.

        Raises:     EvidenceError when there is one: evidence is never overwritten. A file that
                    was killed in its very first line is none: nothing was promised to anybody.
        """
        if not path.exists():
            create_file(path, mode=0o666)
        journal = LedgerJournal(path, server_key=identity.public_key)
        if journal.read_new():
            raise EvidenceError(f"{path} is there already: evidence is never overwritten")
        facts = {"server_key": identity.public_key.hex(), "version": 2, **asdict(scope)}
        entry = Entry(
            index=0, time=clock(), event=Event.OPENED.value, facts=facts, ledger=scope.ledger
        )
        with journal.locked():
            journal.append(journal.signed(entry, identity=identity))
        return cls(path, identity=identity, clock=clock)

    @property
    def id(self) -> str:
        """The ledger's name."""
        return self._journal.ledger

    @property
    def head(self) -> TreeHead:
        """The newest head."""
        with self._lock:
            return self._journal.head

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
            entry = Entry(
                index=self._journal.tree.size,
                time=self._clock(),
                event=Event(event).value,
                facts=facts,
                ledger=self._journal.ledger,
            )
            line = self._journal.signed(entry, identity=self._identity)
            with self._journal.locked():
                self._journal.append(line)
            return entry
