"""All rosters of one federation, from the first to the one in force.

::

    file    = the signed first roster alone, or
              encode(label, signed roster of epoch 1, of epoch 2, ...)

The chain is whole: whoever holds it needs nobody's word about what was before. It states each
change, and each stated change is the true one: who reads "revoked" knows that the key is gone. Keys
that were revoked or replaced never come back, under whatever name.

Nothing here says which of two chains is right. ``compare`` says how they differ; a party takes one
that goes on from its own, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from protocol import labels
from protocol.encoding import Reader, encode
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import SERVER, Identity
from protocol.roster import FIRST_EPOCH, Roster
from protocol.roster_changes import ChangeKind, RosterChange

__all__ = ["MAX_CHAIN_SIZE", "MAX_EPOCHS", "RosterChain", "Succession"]

MAX_EPOCHS = 1024
# A hundred sites with classical keys for all epochs, with hybrid ones for forty.
MAX_CHAIN_SIZE = 12 << 20
_PEER = "roster"


class Succession(Enum):
    """How another chain relates to one's own."""

    SAME = "the same"
    # It begins with all of one's own: to be taken.
    NEWER = "newer"
    # One's own begins with all of it: somebody shows the past.
    OLDER = "older"
    # They part: one owner's key signed two rosters of one epoch.
    FORKED = "forked"


@dataclass(frozen=True, slots=True)
class RosterChain:
    """Rosters of the epochs 1, 2, ...; each follows from the one before.

    rosters     oldest first
    signed      their files, in the same order
    suspended   party -> key, of those that may be resumed

    Raises:     RemoteProtocolError (peer ``"roster"``) for a roster that does not follow.
    """

    rosters: tuple[Roster, ...]
    signed: tuple[bytes, ...] = field(repr=False)
    suspended: Mapping[str, bytes] = field(init=False, repr=False, compare=False)
    retired: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.rosters or len(self.rosters) != len(self.signed):
            raise ValueError("expected at least one roster, each with its file")
        if len(self.rosters) > MAX_EPOCHS:
            raise _refused(f"more than {MAX_EPOCHS} epochs")
        if self.rosters[0].epoch != FIRST_EPOCH:
            raise _refused(f"begins with epoch {self.rosters[0].epoch}: epochs are missing")
        suspended: dict[str, bytes] = {}
        retired: set[bytes] = set()
        for before, after in zip(self.rosters, self.rosters[1:], strict=False):
            _check_link(before, after)
            _check_changes(before, after, suspended=suspended)
            for change in after.changes:
                _follow(change, before, suspended=suspended, retired=retired)
            _check_keys(after, suspended=suspended, retired=retired)
        object.__setattr__(self, "suspended", MappingProxyType(suspended))
        object.__setattr__(self, "retired", frozenset(retired))

    @classmethod
    def of(cls, signed: Iterable[bytes], *, owner_key: bytes) -> RosterChain:
        """The chain of roster files, each signed by the owner whose key is pinned.

        Raises:     RemoteProtocolError (peer ``"roster"``) for anything else.
        """
        files = tuple(signed)
        return cls(tuple(Roster.load(file, owner_key=owner_key) for file in files), files)

    @classmethod
    def load(cls, data: bytes, *, owner_key: bytes) -> RosterChain:
        """The chain in a file's ``data``, all of it signed by the owner whose key is pinned.

        Raises:     RemoteProtocolError (peer ``"roster"``) for anything else.
        """
        reader = Reader(data, peer=_PEER)
        # The beginning alone: a body may be long.
        if bytes(reader.view("label or body", max_size=len(data))[:64]) != labels.ROSTER_CHAIN:
            return cls.of([data], owner_key=owner_key)
        if len(data) > MAX_CHAIN_SIZE:
            raise _refused("too large")
        files: list[bytes] = []
        while not reader.is_done:
            if len(files) == MAX_EPOCHS:
                raise _refused(f"more than {MAX_EPOCHS} epochs")
            files.append(bytes(reader.view("roster of an epoch", max_size=len(data))))
        if len(files) < 2:  # one form for each: one chain has one file
            raise _refused("a chain of one roster is that roster alone")
        return cls.of(files, owner_key=owner_key)

    def to_bytes(self) -> bytes:
        """The file that ``load`` reads; the first roster alone as it was before there were chains.

        Raises:     ValueError where it would be too large to be read.
        """
        if len(self.signed) == 1:
            return self.signed[0]
        data = encode([labels.ROSTER_CHAIN, *self.signed])
        if len(data) > MAX_CHAIN_SIZE:
            raise ValueError(f"expected rosters of at most {MAX_CHAIN_SIZE} bytes together")
        return data

    @property
    def current(self) -> Roster:
        """The roster in force."""
        return self.rosters[-1]

    @property
    def first(self) -> Roster:
        """The first roster, whose hash names the federation for good."""
        return self.rosters[0]

    def named(self, roster_hash: bytes) -> Roster | None:
        """The roster of whatever epoch with this hash."""
        return next((each for each in self.rosters if each.hash == roster_hash), None)

    def compare(self, other: RosterChain) -> Succession:
        """How ``other`` relates to this chain."""
        ours = [each.hash for each in self.rosters]
        theirs = [each.hash for each in other.rosters]
        common = min(len(ours), len(theirs))
        if ours[:common] != theirs[:common]:
            return Succession.FORKED
        if len(ours) == len(theirs):
            return Succession.SAME
        return Succession.NEWER if len(theirs) > len(ours) else Succession.OLDER

    def extended(
        self,
        owner: Identity,
        *,
        server_key: bytes,
        keys: Mapping[str, bytes],
        changes: Iterable[RosterChange],
    ) -> RosterChain:
        """This chain with one more epoch, signed by the federation's ``owner``.

        Raises:     RemoteProtocolError or ValueError for members that cannot follow.
        """
        before = self.current
        after = replace(
            before,
            server_key=server_key,
            members=tuple(sorted(keys.items())),
            epoch=before.epoch + 1,
            previous=before.hash,
            changes=tuple(sorted(changes, key=lambda change: change.party)),
        )
        return RosterChain((*self.rosters, after), (*self.signed, after.sign(owner)))


def _check_link(before: Roster, after: Roster) -> None:
    if after.epoch != before.epoch + 1:
        raise _refused(f"epoch {after.epoch} stands behind epoch {before.epoch}")
    if after.previous != before.hash:
        raise _refused(f"epoch {after.epoch} does not follow from the epoch {before.epoch} here")
    if after.federation_id != before.federation_id or after.owner_key != before.owner_key:
        raise _refused(f"epoch {after.epoch} is of another federation or owner")


def _check_changes(before: Roster, after: Roster, *, suspended: Mapping[str, bytes]) -> None:
    """The stated changes are the true ones, each of a kind that is possible."""
    stated = {change.party: change.kind for change in after.changes}
    parties = {SERVER, *(id for id, _ in (*before.members, *after.members)), *stated}
    for party in sorted(parties):
        possible = _possible(before.key(party), after.key(party), suspended.get(party))
        if stated.get(party) not in possible:
            raise _refused(f"epoch {after.epoch} does not state the change of {party}")
    if not stated:
        raise _refused(f"epoch {after.epoch} changes nothing")


def _possible(
    before: bytes | None, after: bytes | None, suspended: bytes | None
) -> tuple[ChangeKind | None, ...]:
    """Kinds of the change from one key to another; None is no change."""
    if before is not None:
        if after is None:
            return ChangeKind.SUSPENDED, ChangeKind.REVOKED
        return (None,) if before == after else (ChangeKind.ROTATED,)
    if after is None:
        return (None, ChangeKind.REVOKED) if suspended is not None else (None,)
    if suspended is None:
        return (ChangeKind.ADDED,)
    return (ChangeKind.RESUMED,) if after == suspended else (ChangeKind.ROTATED,)


def _follow(
    change: RosterChange,
    before: Roster,
    *,
    suspended: dict[str, bytes],
    retired: set[bytes],
) -> None:
    key = before.key(change.party) or suspended.pop(change.party, None)
    if key is None:
        return
    if change.kind is ChangeKind.SUSPENDED:
        suspended[change.party] = key
    if change.kind.retires_key:
        retired.add(key)


def _check_keys(roster: Roster, *, suspended: Mapping[str, bytes], retired: set[bytes]) -> None:
    for party, key in ((SERVER, roster.server_key), *roster.members):
        if key in retired:
            raise _refused(f"epoch {roster.epoch}: the key of {party} was revoked or replaced")
        if key in suspended.values():
            raise _refused(f"epoch {roster.epoch}: the key of {party} is a suspended site's")


def _refused(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(_PEER, Misbehaviour.MALFORMED, detail)
