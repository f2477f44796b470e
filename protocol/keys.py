"""The key schedule: from fresh seeds and public transcripts to every key of a round.

    ctx    hash of the round's specification (``RoundSpec.context``)
    h1     = H(ctx, all (id, s_pk, c_pk) of U1, sorted by id)
    h2     = H(h1, ids of U2)
    a, b, c = HKDF(fresh seed, salt=ctx)             secret scalars of a site
    K_pair = HKDF(a_u a_v B, salt=h2)                cancels between u and v
    K_self = HKDF(b_u, salt=h2)                      removed with b_u if u stays
    K_chan = HKDF(c_u c_v B, salt=h1)                directional, seals u's shares for v

The salts make each key depend on everything its owner saw: two sites that were shown different
models, parameters or member sets derive masks that do not cancel, and the server learns nothing
(Pasquini et al. 2022, arXiv:2111.07380, on model inconsistency). No key outlives its round.

Source: Bonawitz et al. (2017), eprint 2017/281, Figure 4; RFC 8032 (the group); RFC 5869.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import labels
from protocol.encoding import encode, encode_text
from protocol.group import is_point, multiple, public_point, write_scalar
from protocol.secrecy import NoCopies

__all__ = [
    "KeyPair",
    "PublicKeys",
    "channel_key",
    "channel_key_from",
    "is_safe_public_key",
    "key_transcript",
    "pair_key",
    "rounding_key",
    "secret_scalar",
    "self_key",
    "share_transcript",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKeys:
    """What one site advertises: ``mask`` is s_pk and ``channel`` is c_pk, 32 bytes each."""

    id: str
    mask: bytes
    channel: bytes


class KeyPair(NoCopies):
    """A secret scalar and its public point, 32 bytes each."""

    __slots__ = ("public", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.public = public_point(secret)

    def exchange(self, peer: bytes) -> bytes:
        """The secret point that both ends compute; ValueError for what is no safe public key."""
        return multiple(self.secret, peer)


def secret_scalar(seed: bytes, *, context: bytes, label: bytes) -> bytes:
    """A uniform scalar from a fresh 32-byte seed; the same seed in another context gives another.

    512 bits are reduced, hence within 2^-128 of uniform.
    """
    wide = _derive(seed, salt=context, info=[label], size=64)
    return write_scalar(int.from_bytes(wide, "little"))


def is_safe_public_key(key: bytes) -> bool:
    """Whether ``key`` is the canonical encoding of a point of the prime-order subgroup."""
    return is_point(key)


def key_transcript(members: Sequence[PublicKeys], *, context: bytes) -> bytes:
    """h1, the hash of all advertised keys; ``members`` sorted by id."""
    entries = [encode([encode_text(m.id), m.mask, m.channel]) for m in members]
    return _hash([labels.KEY_TRANSCRIPT, context, encode(entries)])


def share_transcript(h1: bytes, *, ids: Iterable[str]) -> bytes:
    """h2, the hash of h1 and of who dealt shares (U2); ``ids`` sorted."""
    return _hash([labels.SHARE_TRANSCRIPT, h1, encode(encode_text(id) for id in ids)])


def pair_key(own: KeyPair, *, own_id: str, peer: PublicKeys, h2: bytes) -> bytes:
    """K_pair(u, v), the same at both ends."""
    ends = sorted([(encode_text(own_id), own.public), (encode_text(peer.id), peer.mask)])
    info = [labels.MASK_PAIR, ends[0][0], ends[1][0], ends[0][1], ends[1][1]]
    return _derive(own.exchange(peer.mask), salt=h2, info=info)


def self_key(seed: bytes, *, id: str, h2: bytes) -> bytes:
    """K_self(u) from the secret b_u."""
    return _derive(seed, salt=h2, info=[labels.MASK_SELF, encode_text(id)])


def channel_key(own: KeyPair, *, sender: PublicKeys, receiver: PublicKeys, h1: bytes) -> bytes:
    """K_chan(sender -> receiver), computed by either end; the two directions differ."""
    peer = receiver if own.public == sender.channel else sender
    return channel_key_from(own.exchange(peer.channel), sender=sender, receiver=receiver, h1=h1)


def channel_key_from(
    shared_point: bytes, *, sender: PublicKeys, receiver: PublicKeys, h1: bytes
) -> bytes:
    """The same from the secret point of the two ends, which a complaint shows."""
    ends = [encode_text(sender.id), encode_text(receiver.id), sender.channel, receiver.channel]
    return _derive(shared_point, salt=h1, info=[labels.SHARE_CHANNEL, *ends])


def rounding_key(seed: bytes, *, context: bytes) -> bytes:
    """The key of the stochastic-rounding stream of one input."""
    return _derive(seed, salt=context, info=[labels.STOCHASTIC_ROUNDING])


def _hash(fields: Iterable[bytes]) -> bytes:
    return hashlib.sha256(encode(fields)).digest()


def _derive(secret: bytes, *, salt: bytes, info: Iterable[bytes], size: int = 32) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=encode(info)).derive(secret)
