"""The two cipher suites: on curves alone, and on curves and lattices together.

``CLASSICAL``    X25519-like agreement in the group of edwards25519, Ed25519 signatures
``HYBRID_PQ``    each key agreement also encapsulates with ML-KEM-768, each signature is also one of
                 ML-DSA-65: who breaks only the curves, or only the lattices, breaks neither

A federation has one suite, that of the keys in its roster. Whoever records a round today and has a
quantum computer later learns nothing of a hybrid one: no public value in it is a multiple of a
shared secret (``dealing``), and no key derives from the curve alone.

Source: FIPS 203 (ML-KEM), FIPS 204 (ML-DSA); both from the library ``cryptography``.
"""

from __future__ import annotations

from enum import Enum

from protocol import labels

__all__ = ["Suite"]

_PREFIX_SIZE = 4
_HYBRID_PREFIX = b"FSA2PQ"


class Suite(Enum):
    """What keys and signatures of a federation are made of; the value is the setting's."""

    CLASSICAL = "classical"
    HYBRID_PQ = "hybrid_pq"

    @property
    def is_hybrid(self) -> bool:
        """Whether lattices are in it."""
        return self is Suite.HYBRID_PQ

    @property
    def primitives(self) -> bytes:
        """Names every primitive; part of each round's context."""
        return labels.HYBRID_SUITE if self.is_hybrid else labels.SUITE

    def label(self, label: bytes) -> bytes:
        """``label`` as this suite uses it: no use of a key has the same label in both."""
        return _HYBRID_PREFIX + label[_PREFIX_SIZE:] if self.is_hybrid else label
