"""What a dealer signs in R1: a head with the proof, and one item for each holder under its root.

The head is signed by itself beside the envelope, so that each holder gets it with its own item and
a path to the root: what a holder complains about is what the dealer provably signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from protocol import labels
from protocol.commitments import COMMITMENT_SIZE, ShareKind
from protocol.encoding import Reader, encode, encode_text
from protocol.group import POINT_SIZE, SCALAR_SIZE
from protocol.identity import SIGNATURE_SIZE, Identity, verify_signature
from protocol.merkle import HASH_SIZE, MAX_PATH_SIZE, leads_to
from protocol.messages.envelope import signed_bytes
from protocol.transport import SEALED_SIZE

__all__ = ["MAX_DELIVERED_SIZE", "DealingHead", "DealtShare", "DeliveredShare"]

# Head and item below 512 bytes each, an id, and a path.
MAX_DELIVERED_SIZE = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class DealtShare:
    """One holder's item of a dealing; ``sealed`` is empty for the dealer's own.

    The commitments are hashes, the responses the proof's polynomials at the holder's point.
    """

    holder: str
    mask_key_commitment: bytes
    self_mask_commitment: bytes
    mask_key_response: bytes
    self_mask_response: bytes
    sealed: bytes

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
            ]
        )

    @classmethod
    def decode(cls, data: bytes | memoryview, *, peer: str, dealer: str) -> DealtShare:
        """The item of ``dealer`` in ``data``, which ``peer`` sent."""
        reader = Reader(data, peer=peer)
        holder = reader.text("holder")
        found = cls(
            holder=holder,
            mask_key_commitment=reader.exact("mask_key_commitment", size=COMMITMENT_SIZE),
            self_mask_commitment=reader.exact("self_mask_commitment", size=COMMITMENT_SIZE),
            mask_key_response=reader.exact("mask_key_response", size=SCALAR_SIZE),
            self_mask_response=reader.exact("self_mask_response", size=SCALAR_SIZE),
            sealed=bytes(reader.view("sealed", max_size=SEALED_SIZE)),
        )
        if len(found.sealed) != (0 if holder == dealer else SEALED_SIZE):
            raise reader.error("sealed: wrong length")
        reader.finish()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class DealingHead:
    """The part of a dealing that is the same for all holders, and the dealer's signature on it.

    self_mask_point      b_u times the base point; that of a_u is the advertised mask key
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

    def sign(self, dealer: Identity, *, context: bytes) -> DealingHead:
        """The same with ``dealer``'s signature."""
        signature = dealer.sign(self._signed(dealer.id, context))
        return DealingHead(
            h1=self.h1,
            self_mask_point=self.self_mask_point,
            challenge=self.challenge,
            mask_key_response=self.mask_key_response,
            self_mask_response=self.self_mask_response,
            root=self.root,
            signature=signature,
        )

    def is_signed_by(self, public_key: bytes, *, dealer: str, context: bytes) -> bool:
        """Whether the signature is ``dealer``'s, in this very attempt."""
        message = self._signed(dealer, context)
        return verify_signature(public_key, signature=self.signature, message=message)

    def encode(self) -> bytes:
        """The head in wire form."""
        return encode([*self._fields(), self.signature])

    @classmethod
    def decode(cls, data: bytes | memoryview, *, peer: str) -> DealingHead:
        """The head in ``data``, which ``peer`` sent."""
        reader = Reader(data, peer=peer)
        found = cls(
            h1=reader.exact("h1", size=HASH_SIZE),
            self_mask_point=reader.exact("self_mask_point", size=POINT_SIZE),
            challenge=reader.exact("challenge", size=SCALAR_SIZE),
            mask_key_response=reader.exact("mask_key_response", size=SCALAR_SIZE),
            self_mask_response=reader.exact("self_mask_response", size=SCALAR_SIZE),
            root=reader.exact("root", size=HASH_SIZE),
            signature=reader.exact("signature", size=SIGNATURE_SIZE),
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
        return signed_bytes(labels.DEALING, context=context, sender=dealer, body_hash=digest)


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
    def decode(cls, data: bytes | memoryview, *, peer: str) -> DeliveredShare:
        """The share in ``data``, which ``peer`` sent."""
        reader = Reader(data, peer=peer)
        dealer = reader.text("dealer")
        found = cls(
            dealer=dealer,
            head=DealingHead.decode(reader.view("head", max_size=512), peer=peer),
            item=DealtShare.decode(reader.view("item", max_size=512), peer=peer, dealer=dealer),
            path=bytes(reader.view("path", max_size=MAX_PATH_SIZE)),
        )
        reader.finish()
        return found
