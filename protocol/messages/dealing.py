"""What a dealer signs in R1: a head with the proof, and one item for each holder under its root.

The head is signed by itself beside the envelope, so that each holder gets it with its own item and
a path to the root: what a holder complains about is what the dealer provably signed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from protocol import labels
from protocol.capsule import CAPSULE_SIZE
from protocol.commitments import COMMITMENT_SIZE, ShareKind
from protocol.encoding import Reader, encode, encode_text
from protocol.group import POINT_SIZE, SCALAR_SIZE
from protocol.identity import Identity, signature_size, verify_signature
from protocol.merkle import HASH_SIZE, MAX_PATH_SIZE, leads_to
from protocol.messages.envelope import signed_bytes
from protocol.suite import Suite
from protocol.transport import SEALED_SIZES

__all__ = [
    "MAX_DELIVERED_SIZES",
    "MAX_PART_SIZES",
    "DealingHead",
    "DealtShare",
    "DeliveredShare",
]

# A head or an item; then both with an id and a path.
MAX_PART_SIZES = {Suite.CLASSICAL: 512, Suite.HYBRID_PQ: 4096}
MAX_DELIVERED_SIZES = {Suite.CLASSICAL: 2048, Suite.HYBRID_PQ: 10_240}


@dataclass(frozen=True, kw_only=True, slots=True)
class DealtShare:
    """One holder's item of a dealing; ``sealed`` is empty for the dealer's own.

    The commitments are hashes, the responses the proof's polynomials at the holder's point.
    ``capsule`` holds the pair secret where the holder has the higher id, in the hybrid suite.
    """

    holder: str
    mask_key_commitment: bytes
    self_mask_commitment: bytes
    mask_key_response: bytes
    self_mask_response: bytes
    sealed: bytes
    capsule: bytes = b""
    suite: Suite = Suite.CLASSICAL

    def commitment(self, kind: ShareKind) -> bytes:
        """The commitment to the share of one kind."""
        return self.mask_key_commitment if kind is ShareKind.MASK_KEY else self.self_mask_commitment

    def response(self, kind: ShareKind) -> bytes:
        """The proof's response for the share of one kind."""
        return self.mask_key_response if kind is ShareKind.MASK_KEY else self.self_mask_response

    def encode(self) -> bytes:
        """The item in wire form, and as it stands under the root."""
        return encode(
            [
                encode_text(self.holder),
                self.mask_key_commitment,
                self.self_mask_commitment,
                self.mask_key_response,
                self.self_mask_response,
                self.sealed,
                *([self.capsule] if self.suite.is_hybrid else []),
            ]
        )

    @classmethod
    def decode(
        cls, data: bytes | memoryview, *, peer: str, dealer: str, suite: Suite = Suite.CLASSICAL
    ) -> DealtShare:
        """The item of ``dealer`` in ``data``, which ``peer`` sent."""
        reader = Reader(data, peer=peer)
        holder = reader.text("holder")
        found = cls(
            holder=holder,
            mask_key_commitment=reader.exact("mask_key_commitment", size=COMMITMENT_SIZE),
            self_mask_commitment=reader.exact("self_mask_commitment", size=COMMITMENT_SIZE),
            mask_key_response=reader.exact("mask_key_response", size=SCALAR_SIZE),
            self_mask_response=reader.exact("self_mask_response", size=SCALAR_SIZE),
            sealed=bytes(reader.view("sealed", max_size=SEALED_SIZES[suite])),
            capsule=bytes(reader.view("capsule", max_size=CAPSULE_SIZE))
            if suite.is_hybrid
            else b"",
            suite=suite,
        )
        if len(found.sealed) != (0 if holder == dealer else SEALED_SIZES[suite]):
            raise reader.error("sealed: wrong length")
        if found.capsule and (len(found.capsule) != CAPSULE_SIZE or holder <= dealer):
            raise reader.error("capsule: wrong length or place")
        reader.finish()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class DealingHead:
    """The part of a dealing that is the same for all holders, and the dealer's signature on it.

    self_mask_point      b_u times the base point; that of a_u is the advertised mask key. Empty in
                         the hybrid suite
    challenge            d of the proof, a scalar
    mask_key_response    the proof's polynomials at zero, scalars
    self_mask_response
    root                 of the hash tree over the items
    """

    h1: bytes
    self_mask_point: bytes
    challenge: bytes
    mask_key_response: bytes
    self_mask_response: bytes
    root: bytes
    signature: bytes
    suite: Suite = Suite.CLASSICAL

    def sign(self, dealer: Identity, *, context: bytes) -> DealingHead:
        """The same with ``dealer``'s signature."""
        signature = dealer.sign(self._signed(dealer.id, context))
        return dataclasses.replace(self, signature=signature)

    def is_signed_by(self, public_key: bytes, *, dealer: str, context: bytes) -> bool:
        """Whether the signature is ``dealer``'s, in this very attempt."""
        message = self._signed(dealer, context)
        return verify_signature(public_key, signature=self.signature, message=message)

    def encode(self) -> bytes:
        """The head in wire form."""
        return encode([*self._fields(), self.signature])

    @classmethod
    def decode(
        cls, data: bytes | memoryview, *, peer: str, suite: Suite = Suite.CLASSICAL
    ) -> DealingHead:
        """The head in ``data``, which ``peer`` sent."""
        reader = Reader(data, peer=peer)
        found = cls(
            h1=reader.exact("h1", size=HASH_SIZE),
            self_mask_point=reader.exact(
                "self_mask_point", size=0 if suite.is_hybrid else POINT_SIZE
            ),
            challenge=reader.exact("challenge", size=SCALAR_SIZE),
            mask_key_response=reader.exact("mask_key_response", size=SCALAR_SIZE),
            self_mask_response=reader.exact("self_mask_response", size=SCALAR_SIZE),
            root=reader.exact("root", size=HASH_SIZE),
            signature=reader.exact("signature", size=signature_size(suite)),
            suite=suite,
        )
        reader.finish()
        return found

    def _fields(self) -> list[bytes]:
        return [
            self.h1,
            self.self_mask_point,
            self.challenge,
            self.mask_key_response,
            self.self_mask_response,
            self.root,
        ]

    def _signed(self, dealer: str, context: bytes) -> bytes:
        digest = hashlib.sha256(encode(self._fields())).digest()
        return signed_bytes(
            self.suite.label(labels.DEALING), context=context, sender=dealer, body_hash=digest
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveredShare:
    """One holder's item of ``dealer``'s dealing, with what proves that the dealer signed it."""

    dealer: str
    head: DealingHead
    item: DealtShare
    path: bytes

    def is_dealt(self, *, holder: str, public_key: bytes, context: bytes, h1: bytes) -> bool:
        """Whether ``dealer`` signed this very item for ``holder``, in this attempt and under h1."""
        return (
            self.item.holder == holder
            and self.head.h1 == h1
            and leads_to(self.head.root, item=self.item.encode(), path=self.path)
            and self.head.is_signed_by(public_key, dealer=self.dealer, context=context)
        )

    def encode(self) -> bytes:
        """One item of the list in ``ShareDelivery``, and the object of a ``Complaint``."""
        return encode([encode_text(self.dealer), self.head.encode(), self.item.encode(), self.path])

    @classmethod
    def decode(
        cls, data: bytes | memoryview, *, peer: str, suite: Suite = Suite.CLASSICAL
    ) -> DeliveredShare:
        """The share in ``data``, which ``peer`` sent."""
        reader, size = Reader(data, peer=peer), MAX_PART_SIZES[suite]
        dealer = reader.text("dealer")
        head = reader.view("head", max_size=size)
        item = reader.view("item", max_size=size)
        found = cls(
            dealer=dealer,
            head=DealingHead.decode(head, peer=peer, suite=suite),
            item=DealtShare.decode(item, peer=peer, dealer=dealer, suite=suite),
            path=bytes(reader.view("path", max_size=MAX_PATH_SIZE)),
        )
        reader.finish()
        return found
