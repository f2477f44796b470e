"""Bodies of the messages that a site sends: keys, shares, input, signature, revealed shares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from protocol import labels
from protocol.commitments import ShareKind
from protocol.encoding import Reader, encode, encode_text
from protocol.group import POINT_SIZE, SCALAR_SIZE
from protocol.kem import KEM_SEED_SIZE
from protocol.keys import CHANNEL_KEY_SIZES, MASK_KEY_SIZES
from protocol.merkle import MAX_PATH_SIZE, paths_of
from protocol.messages.dealing import (
    MAX_DELIVERED_SIZES,
    MAX_PART_SIZES,
    DealingHead,
    DealtShare,
    DeliveredShare,
)
from protocol.messages.envelope import signed_bytes
from protocol.shamir import SHARE_SIZE
from protocol.suite import Suite

__all__ = [
    "AdvertiseKeys",
    "Complaint",
    "ConsistencyCheck",
    "MaskedInput",
    "RevealedShare",
    "ShareKeys",
    "Unmask",
    "consistency_bytes",
]

_HASH_SIZE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class AdvertiseKeys:
    """R0: the site's two public keys of this attempt, s_pk and c_pk."""

    LABEL: ClassVar = labels.ADVERTISE_KEYS

    mask_key: bytes
    channel_key: bytes

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([self.mask_key, self.channel_key])

    @classmethod
    def decode(
        cls, body: bytes | memoryview, *, peer: str, suite: Suite = Suite.CLASSICAL
    ) -> AdvertiseKeys:
        """The body that ``peer`` sent; RemoteProtocolError(MALFORMED) for anything else."""
        reader = Reader(body, peer=peer)
        mask_key = reader.exact("mask_key", size=MASK_KEY_SIZES[suite])
        channel_key = reader.exact("channel_key", size=CHANNEL_KEY_SIZES[suite])
        reader.finish()
        return cls(mask_key=mask_key, channel_key=channel_key)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareKeys:
    """R1: the dealing's signed head, and one item for each holder of a_u's and b_u's shares."""

    LABEL: ClassVar = labels.SHARE_KEYS

    head: DealingHead
    shares: tuple[DealtShare, ...]

    def deliveries(self, dealer: str) -> dict[str, DeliveredShare]:
        """Each holder's item with what proves that ``dealer`` dealt it."""
        paths = paths_of([share.encode() for share in self.shares])
        return {
            item.holder: DeliveredShare(dealer=dealer, head=self.head, item=item, path=path)
            for item, path in zip(self.shares, paths, strict=True)
        }

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([self.head.encode(), encode(share.encode() for share in self.shares)])

    @classmethod
    def decode(
        cls,
        body: bytes | memoryview,
        *,
        peer: str,
        max_shares: int,
        suite: Suite = Suite.CLASSICAL,
    ) -> ShareKeys:
        """The body that ``peer`` sent, with at most ``max_shares`` items."""
        reader, size = Reader(body, peer=peer), MAX_PART_SIZES[suite]
        head = DealingHead.decode(reader.view("head", max_size=size), peer=peer, suite=suite)
        shares = reader.items(
            "shares",
            lambda items: DealtShare.decode(
                items.view("dealt share", max_size=size), peer=peer, dealer=peer, suite=suite
            ),
            max_items=max_shares,
            max_size=len(body),
        )
        reader.finish()
        return cls(head=head, shares=tuple(shares))


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedInput:
    """R2: the masked vector y_u, packed at the round's word size."""

    LABEL: ClassVar = labels.MASKED_INPUT

    h2: bytes
    packed: bytes | memoryview

    def parts(self) -> list[bytes | memoryview]:
        """The body in wire form, the packed words uncopied."""
        return [encode([self.h2]) + len(self.packed).to_bytes(4, "big"), self.packed]

    @classmethod
    def decode(cls, body: bytes | memoryview, *, peer: str, size: int) -> MaskedInput:
        """The body that ``peer`` sent, whose words take exactly ``size`` bytes; not copied."""
        reader = Reader(body, peer=peer)
        h2 = reader.exact("h2", size=_HASH_SIZE)
        packed = reader.view("packed", min_size=size, max_size=size)
        reader.finish()
        return cls(h2=h2, packed=packed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Complaint:
    """R2, instead of an input: a dealer signed a share that cannot be used, and here is the proof.

    shared_point   the secret point of the channel between the two, from which its keys derive
    challenge      of the proof that it is that point, a scalar, as is ``response``

    In the hybrid suite also what opens the dealer's encapsulation:

    opening        seed of the encapsulation key that the dealer used
    path           from that key to the root in the accuser's channel key

    Where the complaint is about the capsule, ``opening`` is the seed of the mask key, and the point
    and the proof are zeros.
    """

    LABEL: ClassVar = labels.COMPLAINT

    delivered: DeliveredShare
    shared_point: bytes
    challenge: bytes
    response: bytes
    opening: bytes = b""
    path: bytes = b""

    def encode(self) -> bytes:
        """The body in wire form."""
        parts = [self.delivered.encode(), self.shared_point, self.challenge, self.response]
        return encode([*parts, self.opening, self.path] if self.opening else parts)

    @classmethod
    def decode(
        cls, body: bytes | memoryview, *, peer: str, suite: Suite = Suite.CLASSICAL
    ) -> Complaint:
        """The body that ``peer`` sent."""
        reader = Reader(body, peer=peer)
        delivered = reader.view("delivered", max_size=MAX_DELIVERED_SIZES[suite])
        found = cls(
            delivered=DeliveredShare.decode(delivered, peer=peer, suite=suite),
            shared_point=reader.exact("shared_point", size=POINT_SIZE),
            challenge=reader.exact("challenge", size=SCALAR_SIZE),
            response=reader.exact("response", size=SCALAR_SIZE),
            opening=reader.exact("opening", size=KEM_SEED_SIZE) if suite.is_hybrid else b"",
            path=bytes(reader.view("path", max_size=MAX_PATH_SIZE)) if suite.is_hybrid else b"",
        )
        reader.finish()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsistencyCheck:
    """R3: the one survivor set (U3) that this site will ever sign for the round."""

    LABEL: ClassVar = labels.CONSISTENCY

    h2: bytes
    survivors: tuple[str, ...]

    def encode(self) -> bytes:
        """The body in wire form."""
        return encode([self.h2, encode(encode_text(id) for id in self.survivors)])


@dataclass(frozen=True, kw_only=True, slots=True)
class RevealedShare:
    """One share of ``dealer``: of b for a survivor, of a for a site that dropped out."""

    dealer: str
    kind: ShareKind
    share: bytes

    def __repr__(self) -> str:
        return f"<RevealedShare {self.kind.name} of {self.dealer}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmask:
    """R4: what the holder reveals, one share for each dealer in U2."""

    LABEL: ClassVar = labels.UNMASK

    h2: bytes
    shares: tuple[RevealedShare, ...]

    def encode(self) -> bytes:
        """The body in wire form; refuses both shares of one dealer, whoever asks."""
        if len({s.dealer for s in self.shares}) != len(self.shares):
            raise AssertionError("two shares of one dealer must never leave together")
        items: Iterable[bytes] = (
            encode([encode_text(s.dealer), s.kind.value, s.share]) for s in self.shares
        )
        return encode([self.h2, encode(items)])

    @classmethod
    def decode(cls, body: bytes | memoryview, *, peer: str, max_shares: int) -> Unmask:
        """The body that ``peer`` sent, with at most ``max_shares`` shares."""
        reader = Reader(body, peer=peer)
        h2 = reader.exact("h2", size=_HASH_SIZE)

        def share(items: Reader) -> RevealedShare:
            item = Reader(items.view("revealed share", max_size=256), peer=peer)
            dealer = item.text("dealer")
            kind = item.exact("kind", size=1)
            value = item.exact("share", size=SHARE_SIZE)
            item.finish()
            if kind not in (ShareKind.MASK_KEY.value, ShareKind.SELF_MASK.value):
                raise item.error("kind: unknown")
            return RevealedShare(dealer=dealer, kind=ShareKind(kind), share=value)

        shares = reader.items("shares", share, max_items=max_shares, max_size=len(body))
        reader.finish()
        return cls(h2=h2, shares=tuple(shares))


def consistency_bytes(
    *, context: bytes, h2: bytes, survivors: tuple[str, ...]
) -> Callable[[str], bytes]:
    """What a signer must have signed if it stands behind ``survivors``, by the signer's id.

    The set is hashed once for all signers: it is as long as they are many.
    """
    body = ConsistencyCheck(h2=h2, survivors=survivors).encode()
    digest = hashlib.sha256(body).digest()

    def signed_by(signer: str) -> bytes:
        return signed_bytes(
            ConsistencyCheck.LABEL, context=context, sender=signer, body_hash=digest
        )

    return signed_by
