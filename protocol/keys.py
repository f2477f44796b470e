"""The key schedule: from fresh seeds and public transcripts to every key of a round.

    ctx    hash of the round's specification (``RoundSpec.context``)
    h1     = H(ctx, all (id, s_pk, c_pk) of U1, sorted by id)
    h2     = H(h1, ids of U2)
    s_sk   = HKDF(a_u, salt=ctx)                     mask key pair, rebuilt if u drops out
    K_pair = HKDF(X25519(s_u, s_v), salt=h2)         cancels between u and v
    K_self = HKDF(b_u, salt=h2)                      removed with b_u if u stays
    K_chan = HKDF(X25519(c_u, c_v), salt=h1)         directional, seals u's shares for v

The salts make each key depend on everything its owner saw: two sites that were shown different
models, parameters or member sets derive masks that do not cancel, and the server learns nothing
(Pasquini et al. 2022, arXiv:2111.07380, on model inconsistency). No key outlives its round.

Source: Bonawitz et al. (2017), eprint 2017/281, Figure 4; RFC 7748; RFC 5869.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import labels
from protocol.encoding import encode, encode_text
from protocol.secrecy import NoCopies

__all__ = [
    "PublicKeys",
    "X25519Pair",
    "channel_key",
    "is_safe_public_key",
    "key_transcript",
    "pair_key",
    "rounding_key",
    "self_key",
    "share_transcript",
]

_FIELD_PRIME = (1 << 255) - 19
# u-coordinates whose points have order 1, 2, 4 or 8 (RFC 7748, section 6.1; Bernstein's list).
# X25519 with them gives zero whatever the secret key: a mask that the server knows.
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD_PRIME - 1,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKeys:
    """What one site advertises: ``mask`` is s_pk and ``channel`` is c_pk, 32 bytes each."""

    id: str
    mask: bytes
    channel: bytes


class X25519Pair(NoCopies):
    """A private key that never leaves the object, and its 32-byte public key."""

    __slots__ = ("_private", "public")

    def __init__(self, private_bytes: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private_bytes)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def from_mask_seed(cls, seed: bytes, *, context: bytes) -> X25519Pair:
        """The mask key pair of the site whose secret seed is a_u."""
        return cls(_derive(seed, salt=context, info=[labels.MASK_X25519]))

    def exchange(self, peer: bytes) -> bytes:
        """X25519 with a peer's public key; ValueError for a point of small order."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(peer))


def is_safe_public_key(key: bytes) -> bool:
    """Whether ``key`` is a canonical X25519 public key that is not of small order."""
    if len(key) != 32:
        return False
    u = int.from_bytes(key, "little")
    return u < _FIELD_PRIME and u not in _SMALL_ORDER


def key_transcript(members: Sequence[PublicKeys], *, context: bytes) -> bytes:
    """h1, the hash of all advertised keys; ``members`` sorted by id."""
    entries = [encode([encode_text(m.id), m.mask, m.channel]) for m in members]
    return _hash([labels.KEY_TRANSCRIPT, context, encode(entries)])


def share_transcript(h1: bytes, *, ids: Iterable[str]) -> bytes:
    """h2, the hash of h1 and of who dealt shares (U2); ``ids`` sorted."""
    return _hash([labels.SHARE_TRANSCRIPT, h1, encode(encode_text(id) for id in ids)])


def pair_key(own: X25519Pair, *, own_id: str, peer: PublicKeys, h2: bytes) -> bytes:
    """K_pair(u, v), the same at both ends."""
    ends = sorted([(encode_text(own_id), own.public), (encode_text(peer.id), peer.mask)])
    info = [labels.MASK_PAIR, ends[0][0], ends[1][0], ends[0][1], ends[1][1]]
    return _derive(own.exchange(peer.mask), salt=h2, info=info)


def self_key(seed: bytes, *, id: str, h2: bytes) -> bytes:
    """K_self(u) from the secret seed b_u."""
    return _derive(seed, salt=h2, info=[labels.MASK_SELF, encode_text(id)])


def channel_key(own: X25519Pair, *, sender: PublicKeys, receiver: PublicKeys, h1: bytes) -> bytes:
    """K_chan(sender -> receiver), computed by either end; the two directions differ."""
    peer = receiver if own.public == sender.channel else sender
    ends = [encode_text(sender.id), encode_text(receiver.id), sender.channel, receiver.channel]
    return _derive(own.exchange(peer.channel), salt=h1, info=[labels.SHARE_CHANNEL, *ends])


def rounding_key(seed: bytes, *, context: bytes) -> bytes:
    """The key of the stochastic-rounding stream of one input."""
    return _derive(seed, salt=context, info=[labels.STOCHASTIC_ROUNDING])


def _hash(fields: Iterable[bytes]) -> bytes:
    return hashlib.sha256(encode(fields)).digest()


def _derive(secret: bytes, *, salt: bytes, info: Iterable[bytes]) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=encode(info)).derive(secret)
