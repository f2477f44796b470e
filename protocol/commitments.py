"""Commitments that let a lying dealer or a lying share holder be named.

A share is a uniform scalar and is hashed with the proof's blinding value, a uniform scalar too, so
that the hash hides both. The secrets themselves are committed to by their multiples of the base
point: that of a_u is the mask key, that of b_u stands in the dealing's head. (In the hybrid suite
there are no such multiples; see ``dealing``.)
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum

from protocol import labels
from protocol.encoding import encode, encode_text
from protocol.suite import Suite

__all__ = ["COMMITMENT_SIZE", "ShareKind", "opens", "share_commitment"]

COMMITMENT_SIZE = 32


class ShareKind(Enum):
    """Which of a dealer's two secrets a share belongs to."""

    # Of a_u, which rebuilds the pair masks of a site that dropped out.
    MASK_KEY = b"a"
    # Of b_u, which removes the self mask of a site that stayed.
    SELF_MASK = b"b"


def share_commitment(
    share: bytes,
    *,
    blind: bytes,
    context: bytes,
    dealer: str,
    holder: str,
    kind: ShareKind,
    suite: Suite = Suite.CLASSICAL,
) -> bytes:
    """The hash by which ``dealer`` binds itself to the share it gives to ``holder``."""
    label = suite.label(labels.SHARE_COMMITMENT)
    fields = [label, context, encode_text(dealer), encode_text(holder)]
    return hashlib.sha256(encode([*fields, kind.value, share, blind])).digest()


def opens(commitment: bytes, computed: bytes) -> bool:
    """Whether two commitments are equal, in constant time."""
    return hmac.compare_digest(commitment, computed)
