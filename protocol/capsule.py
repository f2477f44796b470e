"""The pair secret of the hybrid suite: encapsulated by one end, and derivable from either's secret.

The lower of two ids, u, encapsulates to the key that v's shared secret a_v makes, and publishes
under its signature the ciphertext, the secret under a pad that a_u makes, and a hash of it:

    (p, ct) = Encaps(ek_v)     pad = p xor HKDF(a_u, salt=h1)     commitment = H(p)

v opens the ciphertext. Encapsulation is randomised, but whoever rebuilds a_u or a_v after a
drop-out gets the same p: from the pad, or from the ciphertext. The hash shows whether u told both
the same; a pad is used once, for a_u is fresh in every attempt and each v has a pad of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import labels
from protocol.encoding import Reader, encode, encode_text
from protocol.kem import CIPHERTEXT_SIZE, KEM_SECRET_SIZE, decapsulate, encapsulate

__all__ = ["CAPSULE_SIZE", "Capsule", "Ends", "PairSecret"]

_COMMITMENT_SIZE = 32
_NUM_FIELDS = 3
_LENGTH_SIZE = 4
CAPSULE_SIZE = CIPHERTEXT_SIZE + KEM_SECRET_SIZE + _COMMITMENT_SIZE + _NUM_FIELDS * _LENGTH_SIZE


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """Between whom, and in which attempt: ``maker`` is the lower id, u."""

    maker: str
    opener: str
    h1: bytes


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PairSecret:
    """p, and the ciphertext that it came in, which pair keys bind too."""

    secret: bytes
    ciphertext: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Capsule:
    """What u deals to v beside its shares."""

    ciphertext: bytes
    pad: bytes
    commitment: bytes

    @classmethod
    def make(cls, kem_key: bytes, *, mask_secret: bytes, ends: Ends) -> tuple[Capsule, PairSecret]:
        """A fresh pair secret for the holder of ``kem_key``; ``mask_secret`` is a_u."""
        secret, ciphertext = encapsulate(kem_key)
        pad = _xor(secret, _pad(mask_secret, ciphertext=ciphertext, ends=ends))
        capsule = cls(
            ciphertext=ciphertext,
            pad=pad,
            commitment=_commitment(secret, ciphertext=ciphertext, ends=ends),
        )
        return capsule, PairSecret(secret=secret, ciphertext=ciphertext)

    def opened_by_seed(self, kem_seed: bytes, *, ends: Ends) -> PairSecret | None:
        """p from v's side; None where it is not what u committed to."""
        return self._checked(decapsulate(kem_seed, self.ciphertext), ends)

    def opened_by_maker(self, mask_secret: bytes, *, ends: Ends) -> PairSecret | None:
        """p from u's side, from a_u; None where it is not what u committed to."""
        pad = _pad(mask_secret, ciphertext=self.ciphertext, ends=ends)
        return self._checked(_xor(self.pad, pad), ends)

    def encode(self) -> bytes:
        """In wire form."""
        return encode([self.ciphertext, self.pad, self.commitment])

    @classmethod
    def decode(cls, data: bytes | memoryview, *, peer: str) -> Capsule:
        """The capsule in ``data``, which ``peer`` sent."""
        reader = Reader(data, peer=peer)
        found = cls(
            ciphertext=reader.exact("ciphertext", size=CIPHERTEXT_SIZE),
            pad=reader.exact("pad", size=KEM_SECRET_SIZE),
            commitment=reader.exact("commitment", size=_COMMITMENT_SIZE),
        )
        reader.finish()
        return found

    def _checked(self, secret: bytes, ends: Ends) -> PairSecret | None:
        expected = _commitment(secret, ciphertext=self.ciphertext, ends=ends)
        if not hmac.compare_digest(expected, self.commitment):
            return None
        return PairSecret(secret=secret, ciphertext=self.ciphertext)


def _pad(mask_secret: bytes, *, ciphertext: bytes, ends: Ends) -> bytes:
    info = [labels.KEM_PAD, encode_text(ends.maker), encode_text(ends.opener), ciphertext]
    kdf = HKDF(algorithm=SHA256(), length=KEM_SECRET_SIZE, salt=ends.h1, info=encode(info))
    return kdf.derive(mask_secret)


def _commitment(secret: bytes, *, ciphertext: bytes, ends: Ends) -> bytes:
    names = [encode_text(ends.maker), encode_text(ends.opener)]
    fields = [labels.KEM_COMMITMENT, ends.h1, *names, ciphertext, secret]
    return hashlib.sha256(encode(fields)).digest()


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))
