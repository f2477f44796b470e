"""Long-term identities: who signs, and how a signature is checked.

Classical keys and signatures are those of Ed25519. Hybrid ones are a pair each, Ed25519 first and
ML-DSA-65 behind it, and both signatures must hold. They are over the message under a label of
their own, and the Ed25519 key of the pair is another than the classical one of the same seed:
half of a hybrid signature is no classical signature of anything.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import labels
from protocol.encoding import encode, encode_text
from protocol.entropy import Entropy, draw, os_entropy
from protocol.secrecy import NoCopies
from protocol.suite import Suite

__all__ = [
    "KEY_SIZE",
    "MAX_SIGNATURE_SIZE",
    "SEED_SIZE",
    "SERVER",
    "SIGNATURE_SIZE",
    "Identity",
    "key_size",
    "signature_size",
    "suite_of_key",
    "verify_signature",
]

SEED_SIZE = 32
# Of Ed25519.
KEY_SIZE = 32
SIGNATURE_SIZE = 64
_LATTICE_KEY_SIZE = 1952
_LATTICE_SIGNATURE_SIZE = 3309
MAX_SIGNATURE_SIZE = SIGNATURE_SIZE + _LATTICE_SIGNATURE_SIZE

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


def key_size(suite: Suite) -> int:
    """Bytes of a public key."""
    return KEY_SIZE + _LATTICE_KEY_SIZE if suite.is_hybrid else KEY_SIZE


def signature_size(suite: Suite) -> int:
    """Bytes of a signature."""
    return MAX_SIGNATURE_SIZE if suite.is_hybrid else SIGNATURE_SIZE


def suite_of_key(public_key: bytes) -> Suite | None:
    """The suite that has public keys of this size."""
    return next((suite for suite in Suite if key_size(suite) == len(public_key)), None)


class Identity(NoCopies):
    """One party's id and its signing key."""

    __slots__ = ("_key", "_lattice_key", "_seed", "id", "public_key")

    def __init__(self, id: str, *, seed: bytes, suite: Suite = Suite.CLASSICAL) -> None:
        encode_text(id)
        if not isinstance(seed, bytes) or len(seed) != SEED_SIZE:
            raise ValueError(f"expected a seed of {SEED_SIZE} bytes")
        self.id = id
        self._seed = seed
        self._lattice_key: MLDSA65PrivateKey | None = None
        if suite.is_hybrid:
            self._key = Ed25519PrivateKey.from_private_bytes(
                _derived(seed, labels.EDWARDS_IDENTITY)
            )
            self._lattice_key = MLDSA65PrivateKey.from_seed_bytes(
                _derived(seed, labels.LATTICE_IDENTITY)
            )
        else:
            self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        if self._lattice_key is not None:
            self.public_key += self._lattice_key.public_key().public_bytes_raw()

    @classmethod
    def generate(
        cls, id: str, *, entropy: Entropy = os_entropy, suite: Suite = Suite.CLASSICAL
    ) -> Identity:
        """A new identity; keep ``export_seed()`` in a file that only its owner can read."""
        return cls(id, seed=draw(entropy, SEED_SIZE), suite=suite)

    def export_seed(self) -> bytes:
        """The 32 secret bytes from which the identity can be made again."""
        return self._seed

    def sign(self, message: bytes) -> bytes:
        """The signature of ``message``: Ed25519 (RFC 8032), under hybrid keys with ML-DSA-65.

        ML-DSA draws fresh bytes for each signature: two signatures of one message differ.
        """
        if self._lattice_key is None:
            return self._key.sign(message)
        both = _composite(message)
        return self._key.sign(both) + self._lattice_key.sign(both)

    def __repr__(self) -> str:
        return f"<Identity {self.id} {self.public_key[:KEY_SIZE].hex()}>"


def verify_signature(public_key: bytes, *, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` over ``message`` is valid; False for every kind of malformed input.

    The pinned key says which suite it is: a hybrid key verifies nothing that has one half only. An
    Ed25519 key that is not canonical or of small order verifies nothing (see ``_SMALL_ORDER_Y``).
    OpenSSL refuses S >= L, so a valid classical signature cannot be turned into a second one
    (RFC 8032, section 8.4).
    """
    suite = suite_of_key(public_key)
    if suite is None or len(signature) != signature_size(suite):
        return False
    if not suite.is_hybrid:
        return _verify_edwards(public_key, signature=signature, message=message)
    both = _composite(message)
    return _verify_edwards(
        public_key[:KEY_SIZE], signature=signature[:SIGNATURE_SIZE], message=both
    ) and _verify_lattice(public_key[KEY_SIZE:], signature=signature[SIGNATURE_SIZE:], message=both)


def _verify_edwards(public_key: bytes, *, signature: bytes, message: bytes) -> bool:
    y = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    if y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _verify_lattice(public_key: bytes, *, signature: bytes, message: bytes) -> bool:
    try:
        MLDSA65PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _composite(message: bytes) -> bytes:
    """What both keys of a hybrid identity sign."""
    return encode([labels.COMPOSITE_SIGNATURE, message])


def _derived(seed: bytes, label: bytes) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=SEED_SIZE, salt=None, info=encode([label]))
    return kdf.derive(seed)
