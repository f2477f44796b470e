"""Attack 22: values that no mask takes; a gap at an end of the range shows a bit of the input.

flwr 1.41 draws from [0, mod - 2]: with two values its masks are all zero.
"""

import numpy as np
import pytest

from protocol.masks import add_mask

KEY = bytes(range(32))


def test_all_65536_values_of_16_bit_words_occur():
    words = np.zeros(1 << 21, dtype=np.uint16)
    add_mask(words, KEY, sign=1)
    assert np.bincount(words, minlength=65_536).min() > 0


@pytest.mark.parametrize("bits", [24, 32])
def test_wide_words_come_as_close_to_both_ends_as_uniform_ones(bits):
    words = np.zeros(1 << 22, dtype=np.uint32)
    add_mask(words, KEY, sign=1)
    values = (words & np.uint32(2**bits - 1)).astype(np.int64)
    # Of 2^22 uniform values one lies in each 2^(bits - 22) on average; sixteen such are missed
    # with probability e^-16.
    margin = 16 * 2 ** (bits - 22)
    assert values.min() < margin
    assert values.max() >= 2**bits - margin


def test_both_ends_of_24_bit_words_do_occur():
    found = set()
    words = np.zeros(1 << 22, dtype=np.uint32)
    for part in range(16):
        words[:] = 0
        add_mask(words, KEY, sign=1, offset_words=part * words.size)
        low = words & 0xFFFFFF
        found |= {end for end in (0, 2**24 - 1) if (low == end).any()}
    assert found == {0, 2**24 - 1}


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_every_bit_is_one_half_of_the_time(dtype):
    words = np.zeros(1 << 20, dtype=dtype)
    add_mask(words, KEY, sign=1)
    for bit in range(8 * words.itemsize):
        ones = int(((words >> bit) & 1).sum())
        assert abs(ones - (1 << 19)) < 5 * (1 << 9)
