"""ML-KEM-768: keys from seeds, so that whoever rebuilds a seed opens what was encapsulated to it.

Encapsulation draws from the operating system inside the library and cannot be made repeatable;
everything that a drop-out's recovery needs is therefore derivable from shared seeds (``capsule``).

Source: FIPS 203; the library ``cryptography``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.encoding import encode

__all__ = [
    "CIPHERTEXT_SIZE",
    "KEM_KEY_SIZE",
    "KEM_SECRET_SIZE",
    "KEM_SEED_SIZE",
    "decapsulate",
    "encapsulate",
    "is_kem_key",
    "kem_key",
    "kem_seed",
]

KEM_KEY_SIZE: Final = 1184
KEM_SEED_SIZE: Final = 64
KEM_SECRET_SIZE: Final = 32
CIPHERTEXT_SIZE: Final = 1088


def kem_seed(secret: bytes, *, context: bytes, info: Sequence[bytes]) -> bytes:
    """The seed d || z of a key pair, from a uniform secret."""
    kdf = HKDF(algorithm=SHA256(), length=KEM_SEED_SIZE, salt=context, info=encode(info))
    return kdf.derive(secret)


def kem_key(seed: bytes) -> bytes:
    """The encapsulation key of the pair that ``seed`` makes; ValueError for another size."""
    return MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def is_kem_key(data: bytes) -> bool:
    """Whether ``data`` passes FIPS 203's check of encapsulation keys."""
    try:
        MLKEM768PublicKey.from_public_bytes(data)
    except ValueError:
        return False
    return True


def encapsulate(key: bytes) -> tuple[bytes, bytes]:
    """A fresh secret and its ciphertext for the holder of ``key``; ValueError for no key."""
    return MLKEM768PublicKey.from_public_bytes(key).encapsulate()


def decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    """The secret in ``ciphertext``; a forged one yields a secret that nobody else knows."""
    return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)
