"""The signed envelope: what kind of message, of which attempt, from whom.

The signature covers label, context, sender and the body's SHA-256, so that a survivor-set
signature can be checked by somebody who rebuilds the body, and a 100 MB body is hashed once.

An attachment may follow the body. It is signed through the body alone, which holds its hash, so
that others can pass the message on without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.encoding import Reader, encode, encode_text
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import (
    MAX_SIGNATURE_SIZE,
    SIGNATURE_SIZE,
    Identity,
    verify_signature,
)

__all__ = ["Envelope", "seal", "signed_bytes"]

_CONTEXT_SIZE = 32
_LENGTH_SIZE = 4
_MAX_LABEL = 64


def signed_bytes(label: bytes, *, context: bytes, sender: str, body_hash: bytes) -> bytes:
    """What the sender signs."""
    return encode([label, context, encode_text(sender), body_hash])


def seal(
    identity: Identity,
    *,
    label: bytes,
    context: bytes,
    body: bytes | Sequence[bytes | memoryview],
    attachment: bytes = b"",
) -> bytes:
    """The wire form of one signed message; ``body`` may come in parts, which are copied once."""
    parts: list[bytes | memoryview] = [body] if isinstance(body, bytes) else list(body)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    signature = identity.sign(
        signed_bytes(label, context=context, sender=identity.id, body_hash=digest.digest())
    )
    head = encode([label, context, encode_text(identity.id), signature])
    size = sum(len(part) for part in parts)
    attached = encode([attachment]) if attachment else b""
    return b"".join([head, size.to_bytes(4, "big"), *parts, attached])


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """A parsed message; nothing in it is to be believed before ``is_signed_by``."""

    label: bytes
    context: bytes
    sender: str
    signature: bytes
    body: memoryview
    body_hash: bytes
    attachment: memoryview

    @classmethod
    def parse(cls, data: bytes | memoryview, *, peer: str, max_size: int) -> Envelope:
        """Split ``data``, without a copy of the body.

        Raises:     RemoteProtocolError(peer, MALFORMED), also for more than ``max_size`` bytes.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise RemoteProtocolError(peer, Misbehaviour.MALFORMED, "not bytes")
        reader = Reader(data, peer=peer)
        if len(data) > max_size:
            raise reader.error("too large")
        label = bytes(reader.view("label", max_size=_MAX_LABEL))
        context = reader.exact("context", size=_CONTEXT_SIZE)
        sender = reader.text("sender")
        # The verifier's key decides which of the sizes between is the right one.
        signature = bytes(
            reader.view("signature", min_size=SIGNATURE_SIZE, max_size=MAX_SIGNATURE_SIZE)
        )
        body = reader.view("body", max_size=max_size)
        attachment = memoryview(b"")
        if not reader.is_done:
            attachment = reader.view("attachment", min_size=1, max_size=max_size)
        reader.finish()
        return cls(
            label=label,
            context=context,
            sender=sender,
            signature=signature,
            body=body,
            body_hash=hashlib.sha256(body).digest(),
            attachment=attachment,
        )

    def without_attachment(self, data: bytes) -> bytes:
        """``data``, of which this was parsed, as it is passed on."""
        attached = len(self.attachment)
        return data[: len(data) - attached - _LENGTH_SIZE] if attached else data

    def digest(self) -> bytes:
        """Names this signed message: equal digests, equal messages."""
        return hashlib.sha256(self._signed()).digest()

    def is_signed_by(self, public_key: bytes) -> bool:
        """Whether the signature is that of ``public_key`` over this very message."""
        return verify_signature(public_key, signature=self.signature, message=self._signed())

    def _signed(self) -> bytes:
        return signed_bytes(
            self.label, context=self.context, sender=self.sender, body_hash=self.body_hash
        )
