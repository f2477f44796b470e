"""The key schedule: from fresh seeds and public transcripts to every key of a round.

    ctx    hash of the round's specification (``RoundSpec.context``)
    h1     = H(ctx, all (id, s_pk, c_pk) of U1, sorted by id)
    h2     = H(h1, ids of U2)
    a, b, c = HKDF(fresh seed, salt=ctx)             secret scalars of a site
    K_pair = HKDF(a_u a_v B, salt=h2)                cancels between u and v
    K_self = HKDF(b_u, salt=h2)                      removed with b_u if u stays
    K_chan = HKDF(c_u c_v B, salt=h1)                directional, seals u's shares for v

In the hybrid suite the pair's and the channel's derivation takes, beside the secret point, a secret
that was encapsulated with ML-KEM, and binds its ciphertext (``capsule``, ``own_keys``).

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
from protocol.capsule import PairSecret
from protocol.encoding import encode, encode_text
from protocol.group import POINT_SIZE, is_point, multiple, public_point, write_scalar
from protocol.kem import KEM_KEY_SIZE, is_kem_key
from protocol.secrecy import NoCopies
from protocol.suite import Suite

__all__ = [
    "CHANNEL_KEY_SIZES",
    "MASK_KEY_SIZES",
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


_ROOT_SIZE = 32
MASK_KEY_SIZES = {Suite.CLASSICAL: POINT_SIZE, Suite.HYBRID_PQ: POINT_SIZE + KEM_KEY_SIZE}
CHANNEL_KEY_SIZES = {Suite.CLASSICAL: POINT_SIZE, Suite.HYBRID_PQ: POINT_SIZE + _ROOT_SIZE}


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicKeys:
    """What one site advertises: ``mask`` is s_pk and ``channel`` is c_pk, 32 bytes each.

    In the hybrid suite an encapsulation key follows the point in ``mask``, and in ``channel`` the
    root of a hash tree over an encapsulation key for each dealer; ``offer`` is the one for us.
    """

    id: str
    mask: bytes
    channel: bytes
    offer: bytes = b""

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Everything that no two sites may have in common."""
        split = (
            self.mask[:POINT_SIZE],
            self.mask[POINT_SIZE:],
            self.channel[:POINT_SIZE],
            self.channel[POINT_SIZE:],
        )
        return tuple(part for part in split if part)

    def is_safe(self, suite: Suite) -> bool:
        """Whether the keys are of this suite, and canonical."""
        points = self.mask[:POINT_SIZE], self.channel[:POINT_SIZE]
        rests = self.mask[POINT_SIZE:], self.channel[POINT_SIZE:]
        if not all(map(is_safe_public_key, points)):
            return False
        if not suite.is_hybrid:
            return rests == (b"", b"")
        return is_kem_key(rests[0]) and len(rests[1]) == _ROOT_SIZE


class KeyPair(NoCopies):
    """A secret scalar and its public point, 32 bytes each."""

    __slots__ = ("public", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.public = public_point(secret)

    @property
    def advertised(self) -> bytes:
        """What others know it by."""
        return self.public

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


def pair_key(
    own: KeyPair, *, own_id: str, peer: PublicKeys, h2: bytes, extra: PairSecret | None = None
) -> bytes:
    """K_pair(u, v), the same at both ends; in the hybrid suite with what was encapsulated."""
    ends = sorted([(encode_text(own_id), own.advertised), (encode_text(peer.id), peer.mask)])
    named = [ends[0][0], ends[1][0], ends[0][1], ends[1][1]]
    point = own.exchange(peer.mask[:POINT_SIZE])
    if extra is None:
        return _derive(point, salt=h2, info=[labels.MASK_PAIR, *named])
    label = Suite.HYBRID_PQ.label(labels.MASK_PAIR)
    return _derive(point + extra.secret, salt=h2, info=[label, *named, extra.ciphertext])


def self_key(seed: bytes, *, id: str, h2: bytes, suite: Suite = Suite.CLASSICAL) -> bytes:
    """K_self(u) from the secret b_u."""
    return _derive(seed, salt=h2, info=[suite.label(labels.MASK_SELF), encode_text(id)])


def channel_key(own: KeyPair, *, sender: PublicKeys, receiver: PublicKeys, h1: bytes) -> bytes:
    """K_chan(sender -> receiver), computed by either end; the two directions differ."""
    peer = receiver if own.public == sender.channel else sender
    return channel_key_from(own.exchange(peer.channel), sender=sender, receiver=receiver, h1=h1)


def channel_key_from(
    shared_point: bytes,
    *,
    sender: PublicKeys,
    receiver: PublicKeys,
    h1: bytes,
    extra: PairSecret | None = None,
) -> bytes:
    """The same from the secret point of the two ends, which a complaint shows.

    In the hybrid suite with what ``sender`` encapsulated to ``receiver``.
    """
    ends = [encode_text(sender.id), encode_text(receiver.id), sender.channel, receiver.channel]
    if extra is None:
        return _derive(shared_point, salt=h1, info=[labels.SHARE_CHANNEL, *ends])
    label = Suite.HYBRID_PQ.label(labels.SHARE_CHANNEL)
    return _derive(shared_point + extra.secret, salt=h1, info=[label, *ends, extra.ciphertext])


def rounding_key(seed: bytes, *, context: bytes) -> bytes:
    """The key of the stochastic-rounding stream of one input."""
    return _derive(seed, salt=context, info=[labels.STOCHASTIC_ROUNDING])


def _hash(fields: Iterable[bytes]) -> bytes:
    return hashlib.sha256(encode(fields)).digest()


def _derive(secret: bytes, *, salt: bytes, info: Iterable[bytes], size: int = 32) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=encode(info)).derive(secret)
