"""Sealing a pair of shares for one receiver: AES-256-GCM under a key that only two sites know.

The additional data binds h1 (hence round, attempt, roster, model and all keys), sender, receiver
and the sender's commitments, so a ciphertext cannot be rerouted, repeated in another round, or
delivered beside other commitments than the dealer's.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol import labels
from protocol.encoding import encode, encode_text
from protocol.entropy import Entropy, draw
from protocol.kem import CIPHERTEXT_SIZE
from protocol.shamir import SHARE_SIZE
from protocol.suite import Suite

__all__ = ["SEALED_SIZE", "SEALED_SIZES", "associated_data", "open_shares", "seal_shares"]

_NONCE_SIZE = 12
_TAG_SIZE = 16
SEALED_SIZE = _NONCE_SIZE + 2 * SHARE_SIZE + _TAG_SIZE
# In the hybrid suite what was encapsulated goes before what is sealed under it.
SEALED_SIZES = {Suite.CLASSICAL: SEALED_SIZE, Suite.HYBRID_PQ: CIPHERTEXT_SIZE + SEALED_SIZE}


def associated_data(
    *,
    h1: bytes,
    sender: str,
    receiver: str,
    commitments: Sequence[bytes],
    suite: Suite = Suite.CLASSICAL,
) -> bytes:
    """What a sealed pair of shares is bound to."""
    ends = [encode_text(sender), encode_text(receiver)]
    return encode([suite.label(labels.SHARE_SEAL), h1, *ends, encode(commitments)])


def seal_shares(
    key: bytes, *, shares: tuple[bytes, bytes], associated: bytes, entropy: Entropy
) -> bytes:
    """Nonce, ciphertext and tag of (share of a_u, share of b_u): 92 bytes.

    Guarantee:  ``key`` must be K_chan, used for this one message; the random nonce is a second
                line of defence.
    """
    if any(len(share) != SHARE_SIZE for share in shares):
        raise ValueError(f"expected shares of {SHARE_SIZE} bytes")
    nonce = draw(entropy, _NONCE_SIZE)
    return nonce + AESGCM(key).encrypt(nonce, b"".join(shares), associated)


def open_shares(key: bytes, *, sealed: bytes, associated: bytes) -> tuple[bytes, bytes] | None:
    """The two shares, or None; why decryption failed is deliberately not said."""
    if len(sealed) != SEALED_SIZE:
        return None
    try:
        plain = AESGCM(key).decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], associated)
    except InvalidTag:
        return None
    return plain[:SHARE_SIZE], plain[SHARE_SIZE:]
