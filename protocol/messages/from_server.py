"""Bodies of the messages that the server sends to sites."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from protocol import labels
from protocol.encoding import Reader, encode, encode_text
from protocol.identity import signature_size
from protocol.kem import KEM_KEY_SIZE
from protocol.merkle import MAX_PATH_SIZE
from protocol.messages.dealing import MAX_DELIVERED_SIZES, DeliveredShare
from protocol.spec import RoundSpec
from protocol.suite import Suite

__all__ = [
    "KeyDirectory",
    "RoundAnnouncement",
    "RoundResult",
    "ShareDelivery",
    "SignatureQuorum",
    "SurvivorList",
]

_HASH_SIZE = 32
# An AdvertiseKeys envelope holds three 32-byte values, a signature, a label and an id. In the
# hybrid suite there is an encapsulation key in it, and the signature is larger.
_MAX_ADVERTISEMENTS = {Suite.CLASSICAL: 512, Suite.HYBRID_PQ: 6144}
_MAX_OFFER_SIZE = 4 + KEM_KEY_SIZE + 4 + MAX_PATH_SIZE


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundAnnouncement:
    """R0: the offer of one attempt at a round."""

    LABEL: ClassVar = labels.ROUND_ANNOUNCEMENT

    spec: RoundSpec

    def encode(self) -> bytes:
        """The body in wire form."""
        return self.spec.encode()

    @classmethod
    def decode(cls, body: bytes | memoryview, *, peer: str) -> RoundAnnouncement:
        """The body that ``peer`` sent."""
        return cls(spec=RoundSpec.decode(body, peer=peer))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyDirectory:
    """R1: the signed AdvertiseKeys messages of all of U1, as they came.

    ``offers``: in the hybrid suite the encapsulation key that each of them has for the receiver,
    with its path to the root in the message; empty at the receiver's own place.
    """

    LABEL: ClassVar = labels.KEY_DIRECTORY

    advertisements: tuple[bytes, ...]
    offers: tuple[tuple[bytes, bytes], ...] = ()

    def encode(self) -> bytes:
        """The body in wire form."""
        fields = [encode(self.advertisements)]
        if self.offers:
            fields.append(encode(encode([key, path]) for key, path in self.offers))
        return encode(fields)

    @classmethod
    def decode(
        cls,
        body: bytes | memoryview,
        *,
        peer: str,
        max_members: int,
        suite: Suite = Suite.CLASSICAL,
    ) -> KeyDirectory:
        """The body that ``peer`` sent."""
        reader, size = Reader(body, peer=peer), _MAX_ADVERTISEMENTS[suite]
        advertisements = reader.items(
            "advertisements",
            lambda items: bytes(items.view("advertisement", max_size=size)),
            max_items=max_members,
            max_size=len(body),
        )
        offers: list[tuple[bytes, bytes]] = []
        if suite.is_hybrid:
            offers = reader.items(
                "offers",
                lambda items: _read_offer(items.view("offer", max_size=_MAX_OFFER_SIZE), peer),
                max_items=max_members,
                max_size=len(body),
            )
            if len(offers) != len(advertisements):
                raise reader.error("offers: not one for each advertisement")
        reader.finish()
        return cls(advertisements=tuple(advertisements), offers=tuple(offers))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareDelivery:
    """R2: who dealt (U2), and the receiver's share from each of its neighbours there."""

    LABEL: ClassVar = labels.SHARE_DELIVERY

    dealers: tuple[str, ...]
    shares: tuple[DeliveredShare, ...]

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([_ids(self.dealers), encode(share.encode() for share in self.shares)])

    @classmethod
    def decode(
        cls,
        body: bytes | memoryview,
        *,
        peer: str,
        max_members: int,
        suite: Suite = Suite.CLASSICAL,
    ) -> ShareDelivery:
        """The body that ``peer`` sent."""
        reader, size = Reader(body, peer=peer), MAX_DELIVERED_SIZES[suite]
        dealers = _read_ids(reader, "dealers", max_members=max_members)
        shares = reader.items(
            "shares",
            lambda items: DeliveredShare.decode(
                items.view("delivered share", max_size=size), peer=peer, suite=suite
            ),
            max_items=max_members,
            max_size=len(body),
        )
        reader.finish()
        return cls(dealers=dealers, shares=tuple(shares))


@dataclass(frozen=True, kw_only=True, slots=True)
class SurvivorList:
    """R3: whose inputs the sum will hold (U3)."""

    LABEL: ClassVar = labels.SURVIVOR_LIST

    h2: bytes
    survivors: tuple[str, ...]

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([self.h2, _ids(self.survivors)])

    @classmethod
    def decode(cls, body: bytes | memoryview, *, peer: str, max_members: int) -> SurvivorList:
        """The body that ``peer`` sent."""
        reader = Reader(body, peer=peer)
        h2 = reader.exact("h2", size=_HASH_SIZE)
        survivors = _read_ids(reader, "survivors", max_members=max_members)
        reader.finish()
        return cls(h2=h2, survivors=survivors)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignatureQuorum:
    """R4: who signed the survivor set, and the signatures."""

    LABEL: ClassVar = labels.SIGNATURE_QUORUM

    signatures: tuple[tuple[str, bytes], ...]

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([encode(encode([encode_text(id), sig]) for id, sig in self.signatures)])

    @classmethod
    def decode(
        cls,
        body: bytes | memoryview,
        *,
        peer: str,
        max_members: int,
        suite: Suite = Suite.CLASSICAL,
    ) -> SignatureQuorum:
        """The body that ``peer`` sent."""
        reader, size = Reader(body, peer=peer), signature_size(suite)

        def signature(items: Reader) -> tuple[str, bytes]:
            item = Reader(items.view("signature", max_size=256 + size), peer=peer)
            found = item.text("signer"), item.exact("signature", size=size)
            item.finish()
            return found

        signatures = reader.items(
            "signatures", signature, max_items=max_members, max_size=len(body)
        )
        reader.finish()
        return cls(signatures=tuple(signatures))


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundResult:
    """R5: what was summed; ``sum_digest`` is the hash of the packed sum."""

    LABEL: ClassVar = labels.ROUND_RESULT

    h2: bytes
    survivors: tuple[str, ...]
    sum_digest: bytes

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([self.h2, _ids(self.survivors), self.sum_digest])

    @classmethod
    def decode(cls, body: bytes | memoryview, *, peer: str, max_members: int) -> RoundResult:
        """The body that ``peer`` sent."""
        reader = Reader(body, peer=peer)
        h2 = reader.exact("h2", size=_HASH_SIZE)
        survivors = _read_ids(reader, "survivors", max_members=max_members)
        sum_digest = reader.exact("sum_digest", size=_HASH_SIZE)
        reader.finish()
        return cls(h2=h2, survivors=survivors, sum_digest=sum_digest)


def _ids(ids: tuple[str, ...]) -> bytes:
    return encode(encode_text(id) for id in ids)


def _read_ids(reader: Reader, name: str, *, max_members: int) -> tuple[str, ...]:
    """A list of ids in strictly rising order, the only form that is accepted for a set."""
    ids = reader.items(name, lambda r: r.text("id"), max_items=max_members, max_size=1 << 21)
    if any(first >= second for first, second in itertools.pairwise(ids)):
        raise reader.error(f"{name}: not sorted or repeated")
    return tuple(ids)


def _read_offer(data: memoryview, peer: str) -> tuple[bytes, bytes]:
    reader = Reader(data, peer=peer)
    key = bytes(reader.view("offered key", max_size=KEM_KEY_SIZE))
    path = bytes(reader.view("path", max_size=MAX_PATH_SIZE))
    reader.finish()
    return key, path
