"""The signed list of who takes part: site ids with their public keys, and the server's key.

The federation's owner signs it; each site compares its fingerprint out of band (by phone, on paper)
and pins the owner's key. From then on a server cannot invent sites or swap keys. All keys are of
one suite, which is the federation's.

Rosters are numbered. The first is epoch 1; each later one names the hash of the one before and what
changed (``roster_chain``), all under the owner's signature. The first has a label and a form of its
own, in which it is epoch 1 by definition: rosters signed before there were epochs stay valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol import labels
from protocol.encoding import Reader, encode, encode_text, encode_uint
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import (
    SERVER,
    Identity,
    key_size,
    signature_size,
    suite_of_key,
    verify_signature,
)
from protocol.roster_changes import MAX_CHANGE_SIZE, RosterChange
from protocol.suite import Suite

__all__ = ["FIRST_EPOCH", "MAX_EPOCH", "MAX_MEMBERS", "Roster"]

MAX_MEMBERS = 65_536
FIRST_EPOCH = 1
MAX_EPOCH = 1 << 16
_HASH_SIZE = 32
_NONE_BEFORE = bytes(_HASH_SIZE)
_PEER = "roster"
_MAX_SIZE = {Suite.CLASSICAL: 1 << 24, Suite.HYBRID_PQ: 1 << 28}
_MAX_MEMBER_SIZE = 128 + key_size(Suite.HYBRID_PQ)


@dataclass(frozen=True, kw_only=True, slots=True)
class Roster:
    """A federation's members, sorted by id.

    epoch      number of this roster, 1 for a federation's first one
    previous   hash of the roster before, zeros for the first
    changes    against the roster before, sorted by party

    Raises:     ValueError for bad or reserved ids, keys of another size, one key held by two, or a
                first roster that names one before or changes.
    """

    federation_id: str
    owner_key: bytes
    server_key: bytes
    members: tuple[tuple[str, bytes], ...]
    epoch: int = FIRST_EPOCH
    previous: bytes = _NONE_BEFORE
    changes: tuple[RosterChange, ...] = ()
    _keys: dict[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        encode_text(self.federation_id)
        ids = [id for id, _ in self.members]
        for id in ids:
            encode_text(id)
        if SERVER in ids:
            raise ValueError(f"expected site ids other than {SERVER!r}")
        if ids != sorted(set(ids)) or not 1 <= len(ids) <= MAX_MEMBERS:
            raise ValueError(f"expected 1 to {MAX_MEMBERS} members, sorted by distinct ids")
        keys = [self.server_key, *(key for _, key in self.members)]
        suites = {suite_of_key(key) for key in [self.owner_key, *keys]}
        if len(suites) != 1 or None in suites:
            sizes = " or of ".join(f"{key_size(suite)} bytes ({suite.value})" for suite in Suite)
            raise ValueError(f"expected keys of {sizes}, all of one suite")
        # One key under two ids would let one party vote twice in the consistency round.
        if len(set(keys)) != len(keys):
            raise ValueError("expected a different key for each member and for the server")
        self._check_place()
        object.__setattr__(self, "_keys", {SERVER: self.server_key, **dict(self.members)})

    def _check_place(self) -> None:
        """The place among the federation's rosters."""
        if not FIRST_EPOCH <= self.epoch <= MAX_EPOCH:
            raise ValueError(f"expected an epoch in [{FIRST_EPOCH}, {MAX_EPOCH}]")
        if len(self.previous) != _HASH_SIZE:
            raise ValueError(f"expected a previous hash of {_HASH_SIZE} bytes")
        if (self.epoch == FIRST_EPOCH) != (self.previous == _NONE_BEFORE):
            raise ValueError("expected a previous hash after the first epoch, and zeros in it")
        if self.epoch == FIRST_EPOCH and self.changes:
            raise ValueError("expected no changes in the first epoch")
        parties = [change.party for change in self.changes]
        if parties != sorted(set(parties)):
            raise ValueError("expected changes sorted by distinct parties")

    @classmethod
    def create(
        cls, *, federation_id: str, owner_key: bytes, server_key: bytes, keys: Mapping[str, bytes]
    ) -> Roster:
        """A federation's first roster, of ``keys`` (site id -> public key)."""
        return cls(
            federation_id=federation_id,
            owner_key=owner_key,
            server_key=server_key,
            members=tuple(sorted(keys.items())),
        )

    def key(self, id: str) -> bytes | None:
        """The pinned key of a site or of the server; None for anybody else."""
        return self._keys.get(id)

    @property
    def suite(self) -> Suite:
        """The suite of every key here, and of the federation's secure rounds."""
        suite = suite_of_key(self.server_key)
        if suite is None:
            raise AssertionError("a roster holds keys of a suite")
        return suite

    @property
    def hash(self) -> bytes:
        """32 bytes that name this roster; every round's context binds them."""
        return hashlib.sha256(self._body()).digest()

    @property
    def fingerprint(self) -> str:
        """The hash for people to compare: 16 groups of 4 hexadecimal digits."""
        digits = self.hash.hex()
        return " ".join(digits[i : i + 4] for i in range(0, 64, 4))

    def sign(self, owner: Identity) -> bytes:
        """The roster file, signed by the federation's owner."""
        if owner.public_key != self.owner_key:
            raise ValueError("expected the identity whose key is the roster's owner_key")
        body = self._body()
        return encode([body, owner.sign(body)])

    @classmethod
    def load(cls, data: bytes, *, owner_key: bytes) -> Roster:
        """The roster in a file's ``data``, if the owner whose key is pinned signed it.

        Raises:     RemoteProtocolError (peer ``"roster"``) for anything else.
        """
        suite = suite_of_key(owner_key)
        if suite is None:
            raise RemoteProtocolError(_PEER, Misbehaviour.BAD_SIGNATURE, "no owner's public key")
        if len(data) > _MAX_SIZE[suite]:
            raise RemoteProtocolError(_PEER, Misbehaviour.MALFORMED, "too large")
        outer = Reader(data, peer=_PEER)
        body = bytes(outer.view("body", max_size=len(data)))
        signature = outer.exact("signature", size=signature_size(suite))
        outer.finish()
        if not verify_signature(owner_key, signature=signature, message=body):
            raise RemoteProtocolError(
                _PEER, Misbehaviour.BAD_SIGNATURE, "not signed by the pinned owner key"
            )
        roster = cls._read(body, suite=suite)
        if roster.owner_key != owner_key:
            raise RemoteProtocolError(_PEER, Misbehaviour.MALFORMED, "names another owner")
        return roster

    def _body(self) -> bytes:
        members = encode(encode([encode_text(id), key]) for id, key in self.members)
        who = [encode_text(self.federation_id), self.owner_key]
        if self.epoch == FIRST_EPOCH:
            return encode([self.suite.label(labels.ROSTER), *who, self.server_key, members])
        return encode(
            [
                self.suite.label(labels.NEXT_ROSTER),
                *who,
                encode_uint(self.epoch),
                self.previous,
                self.server_key,
                members,
                encode(change.encode() for change in self.changes),
            ]
        )

    @classmethod
    def _read(cls, body: bytes, *, suite: Suite) -> Roster:
        reader = Reader(body, peer=_PEER)
        label = bytes(reader.view("label", max_size=64))
        is_first = label == suite.label(labels.ROSTER)
        if not is_first and label != suite.label(labels.NEXT_ROSTER):
            raise reader.error(f"not a roster of this version and of the suite {suite.value}")
        size = key_size(suite)

        def member(entries: Reader) -> tuple[str, bytes]:
            entry = Reader(entries.view("member", max_size=_MAX_MEMBER_SIZE), peer=_PEER)
            found = entry.text("member id"), entry.exact("member key", size=size)
            entry.finish()
            return found

        federation_id = reader.text("federation_id")
        owner_key = reader.exact("owner_key", size=size)
        epoch, previous = FIRST_EPOCH, _NONE_BEFORE
        if not is_first:
            epoch = reader.uint("epoch", max_value=MAX_EPOCH)
            previous = reader.exact("previous", size=_HASH_SIZE)
            if epoch <= FIRST_EPOCH:  # one form for each: one roster has one hash
                raise reader.error("epoch: the first has another form")
        server_key = reader.exact("server_key", size=size)
        members = reader.items("members", member, max_items=MAX_MEMBERS, max_size=len(body))
        changes: list[RosterChange] = []
        if not is_first:
            changes = reader.items(
                "changes",
                lambda items: RosterChange.decode(
                    items.view("change", max_size=MAX_CHANGE_SIZE), peer=_PEER
                ),
                max_items=MAX_MEMBERS,
                max_size=len(body),
            )
        reader.finish()
        try:
            return cls(
                federation_id=federation_id,
                owner_key=owner_key,
                server_key=server_key,
                members=tuple(members),
                epoch=epoch,
                previous=previous,
                changes=tuple(changes),
            )
        except ValueError as error:
            raise reader.error(str(error)) from error
