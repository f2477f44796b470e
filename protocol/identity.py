"""Long-term Ed25519 identities: who signs, and how a signature is checked."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.encoding import encode_text
from protocol.entropy import Entropy, draw, os_entropy
from protocol.secrecy import NoCopies

__all__ = ["KEY_SIZE", "SERVER", "SIGNATURE_SIZE", "Identity", "verify_signature"]

KEY_SIZE = 32
SIGNATURE_SIZE = 64

_FIELD_PRIME = (1 << 255) - 19
# y-coordinates of the eight points of order 1, 2, 4 and 8. With such a key anybody can make a
# signature that holds for every message (R the identity, S = 0); OpenSSL accepts it.
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
        _FIELD_PRIME - 1,
    }
)

# The id under which the server signs; no site may have it.
SERVER = "server"


class Identity(NoCopies):
    """One party's id and its Ed25519 signing key."""

    __slots__ = ("_key", "_seed", "id", "public_key")

    def __init__(self, id: str, *, seed: bytes) -> None:
        encode_text(id)
        if not isinstance(seed, bytes) or len(seed) != KEY_SIZE:
            raise ValueError(f"expected a seed of {KEY_SIZE} bytes")
        self.id = id
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, id: str, *, entropy: Entropy = os_entropy) -> Identity:
        """A new identity; keep ``export_seed()`` in a file that only its owner can read."""
        return cls(id, seed=draw(entropy, KEY_SIZE))

    def export_seed(self) -> bytes:
        """The 32 secret bytes from which the identity can be made again."""
        return self._seed

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature (RFC 8032) of ``message``."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"<Identity {self.id} {self.public_key.hex()}>"


def verify_signature(public_key: bytes, *, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` over ``message`` is valid; False for every kind of malformed input.

    A key that is not canonical or of small order verifies nothing (see ``_SMALL_ORDER_Y``).
    OpenSSL refuses S >= L, so a valid signature cannot be turned into a second one (RFC 8032,
    section 8.4).
    """
    y = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    if y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
