"""Commitments that let a lying dealer or a lying share holder be named.

Shares and seeds are uniform 256-bit values, so a plain hash of one hides it; no separate opening
value is needed. The mask seed a_u needs no commitment of its own: s_pk is one.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum

from protocol import labels
from protocol.encoding import encode, encode_text

__all__ = ["COMMITMENT_SIZE", "ShareKind", "opens", "seed_commitment", "share_commitment"]

COMMITMENT_SIZE = 32


class ShareKind(Enum):
    """Which of a dealer's two secrets a share belongs to."""

    # Of a_u, which rebuilds the pair masks of a site that dropped out.
    MASK_KEY = b"a"
    # Of b_u, which removes the self mask of a site that stayed.
    SELF_MASK = b"b"


def share_commitment(
    share: bytes, *, context: bytes, dealer: str, holder: str, kind: ShareKind
) -> bytes:
    """The hash by which ``dealer`` binds itself to the share it gives to ``holder``."""
    fields = [labels.SHARE_COMMITMENT, context, encode_text(dealer), encode_text(holder)]
    return hashlib.sha256(encode([*fields, kind.value, share])).digest()


def seed_commitment(seed: bytes, *, context: bytes, dealer: str) -> bytes:
    """The hash by which ``dealer`` binds itself to its self-mask seed b_u."""
    return hashlib.sha256(
        encode([labels.SEED_COMMITMENT, context, encode_text(dealer), seed])
    ).digest()


def opens(commitment: bytes, computed: bytes) -> bool:
    """Whether two commitments are equal, in constant time."""
    return hmac.compare_digest(commitment, computed)
