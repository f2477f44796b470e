"""Hashes that name the outcome of a round; the next round's context binds them."""

from __future__ import annotations

import hashlib

from protocol import labels
from protocol.encoding import encode, encode_text
from protocol.masks import Words
from protocol.words import pack

__all__ = ["packed_digest", "sum_digest", "transcript_hash"]

_CHUNK = 1 << 20


def sum_digest(words: Words, *, word_bits: int) -> bytes:
    """SHA-256 of the packed sum (model words, then extra words)."""
    digest = hashlib.sha256(encode([labels.SUM_DIGEST]))
    for start in range(0, words.size, _CHUNK):
        digest.update(pack(words[start : start + _CHUNK], word_bits=word_bits))
    return digest.digest()


def packed_digest(packed: bytes | memoryview) -> bytes:
    """``sum_digest`` of words that are packed already."""
    digest = hashlib.sha256(encode([labels.SUM_DIGEST]))
    digest.update(packed)
    return digest.digest()


def transcript_hash(
    *, context: bytes, h2: bytes, survivors: tuple[str, ...], digest: bytes
) -> bytes:
    """The hash of everything that all sites of a finished round agree on."""
    ids = encode(encode_text(id) for id in survivors)
    return hashlib.sha256(encode([labels.TRANSCRIPT, context, h2, ids, digest])).digest()
