"""Signed envelopes: DSSE v1.0.2 with Ed25519. The type is signed along with the content.

    PAE(type, body) = "DSSEv1" SP len(type) SP type SP len(body) SP body

Source: github.com/secure-systems-lab/dsse, protocol.md and envelope.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from protocol import Identity
from protocol.identity import verify_signature

__all__ = ["BadEnvelope", "Envelope", "key_id", "pae", "sign_envelope"]


class BadEnvelope(ValueError):  # noqa: N818
    """The envelope cannot be read, or holds no valid signature of the asked key."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(public_key: bytes) -> str:
    """SHA-256 of the raw Ed25519 key: a hint for finding it, never a proof."""
    return hashlib.sha256(public_key).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """Content, its type, and signatures (key id, bytes)."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def to_dict(self) -> dict[str, Any]:
        """The envelope as JSON has it."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": key, "sig": base64.b64encode(signature).decode()}
                for key, signature in self.signatures
            ],
        }

    @classmethod
    def from_dict(cls, value: Any) -> Envelope:
        """Read what ``to_dict`` made; nothing is checked yet.

        Raises:     BadEnvelope.
        """
        try:
            signatures = tuple(
                (_text(entry["keyid"]), _bytes(entry["sig"]))
                for entry in _exactly(value, {"payload", "payloadType", "signatures"})["signatures"]
                if _exactly(entry, {"keyid", "sig"})
            )
            return cls(
                payload_type=_text(value["payloadType"]),
                payload=_bytes(value["payload"]),
                signatures=signatures,
            )
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise BadEnvelope("not a DSSE envelope") from error

    def open(self, public_key: bytes, *, payload_type: str) -> bytes:
        """The content, if ``public_key`` signed it as ``payload_type``.

        Raises:     BadEnvelope.
        """
        if self.payload_type != payload_type:
            raise BadEnvelope(f"the envelope holds {self.payload_type!r}, not {payload_type!r}")
        message = pae(payload_type, self.payload)
        # The key id is a hint that nobody signed: every signature is tried.
        if not any(
            verify_signature(public_key, signature=signature, message=message)
            for _, signature in self.signatures
        ):
            raise BadEnvelope(f"no valid signature of the key {key_id(public_key)[:16]}")
        return self.payload


def sign_envelope(payload: bytes, *, payload_type: str, identity: Identity) -> Envelope:
    """``payload`` under the signature of ``identity``."""
    signature = identity.sign(pae(payload_type, payload))
    return Envelope(
        payload_type=payload_type,
        payload=payload,
        signatures=((key_id(identity.public_key), signature),),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _bytes(value: Any) -> bytes:
    """Base64 in its one spelling: other bits in the padding would be a byte that nothing covers."""
    data = base64.b64decode(_text(value), validate=True)
    if base64.b64encode(data).decode() != value:
        raise ValueError("base64 is not in its canonical form")
    return data


def _exactly(value: Any, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        raise TypeError(f"expected exactly the keys {sorted(keys)}")
    return value
