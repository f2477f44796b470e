"""The names of a round's outcome change with everything in it."""

import hashlib

import numpy as np
import pytest

from protocol.transcript import packed_digest, sum_digest, transcript_hash
from protocol.words import pack, word_dtype

BASE = {"context": bytes(32), "h2": bytes(32), "survivors": ("a", "b"), "digest": bytes(32)}


@pytest.mark.parametrize("word_bits", [16, 24, 32])
def test_the_digest_is_that_of_the_packed_words_in_any_chunks(word_bits):
    words = np.arange(2_100_003, dtype=np.int64).astype(word_dtype(word_bits))
    label = b"\x00\x00\x00\x08FSA2/sum"
    whole = hashlib.sha256(label + pack(words, word_bits=word_bits)).digest()
    assert sum_digest(words, word_bits=word_bits) == whole
    assert packed_digest(pack(words, word_bits=word_bits)) == whole


def test_the_transcript_hash_changes_with_every_input():
    other = bytes(31) + b"\x01"
    changes = [
        {},
        {"context": other},
        {"h2": other},
        {"survivors": ("a",)},
        {"survivors": ("ab",)},
        {"digest": other},
    ]
    hashes = {transcript_hash(**(BASE | change)) for change in changes}
    assert len(hashes) == len(changes)
