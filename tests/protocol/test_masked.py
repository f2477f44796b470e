"""Masking and packing in one pass against the two steps, for any split, width and thread count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.masked import masked_bytes
from protocol.masks import CHUNK_BYTES, add_masks
from protocol.words import WORD_BITS, pack, word_dtype

MASKS = [(bytes([number]) * 32, 1 if number % 2 else -1) for number in range(1, 5)]


def two_steps(parts, masks, *, word_bits):
    whole = np.concatenate(parts)
    add_masks(whole, masks)
    return pack(whole, word_bits=word_bits)


@given(
    word_bits=st.sampled_from(WORD_BITS),
    sizes=st.tuples(st.integers(0, 60), st.integers(0, 9)),
    num_masks=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_one_pass_gives_the_bytes_of_masking_and_packing(word_bits, sizes, num_masks, seed):
    rng, dtype = np.random.default_rng(seed), word_dtype(word_bits)
    parts = [rng.integers(0, 2 ** (8 * dtype.itemsize), size, dtype) for size in sizes]
    before = [part.copy() for part in parts]
    found = masked_bytes(parts, MASKS[:num_masks], word_bits=word_bits)
    assert found == two_steps(parts, MASKS[:num_masks], word_bits=word_bits)
    for part, old in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_chunks_and_threads_change_no_bit(word_bits):
    dtype = word_dtype(word_bits)
    size = 5 * CHUNK_BYTES // dtype.itemsize + 17
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 2 ** (8 * dtype.itemsize), n, dtype) for n in (size, 3)]
    # One that nobody can write to, as a session keeps it.
    parts[0].flags.writeable = False
    expected = two_steps(parts, MASKS, word_bits=word_bits)
    for num_threads in (1, 2, 3):
        found = masked_bytes(parts, MASKS, word_bits=word_bits, num_threads=num_threads)
        assert found == expected


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([], "in the clear"),
        ([MASKS[0], MASKS[0]], "each mask key once"),
        ([(bytes(31), 1)], "32 bytes"),
        ([(bytes(32), 0)], "sign"),
    ],
)
def test_masks_that_hide_nothing_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        masked_bytes([np.zeros(4, np.uint32)], masks, word_bits=24)


def test_words_of_another_width_are_refused():
    with pytest.raises(ValueError, match="uint16"):
        masked_bytes([np.zeros(4, np.uint32)], MASKS, word_bits=16)
