"""Words: every width round-trips, 24 bits is a ring map, and foreign lengths are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.words import WORD_BITS, centre, pack, to_words, unpack, word_dtype

widths = st.sampled_from(WORD_BITS)


@given(word_bits=widths, values=st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_pack_equals_the_bytes_of_python_integers(word_bits, values):
    values = [value % 2**word_bits for value in values]
    words = np.array(values, dtype=word_dtype(word_bits))
    data = pack(words, word_bits=word_bits)
    assert data == b"".join(value.to_bytes(word_bits // 8, "little") for value in values)
    back = unpack(data, word_bits=word_bits, num_words=len(values))
    assert back.dtype == word_dtype(word_bits)
    assert back.tolist() == values
    back += 1  # a server adds in place


@given(word_bits=widths, values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_centre_undoes_to_words_inside_the_range_and_wraps_outside(word_bits, values):
    half = 2 ** (word_bits - 1)
    expected = [(value + half) % 2**word_bits - half for value in values]
    for dtype in (np.int32, np.int64):
        words = to_words(np.array(values, dtype=dtype), word_bits=word_bits)
        assert words.dtype == word_dtype(word_bits)
        assert centre(words, word_bits=word_bits).tolist() == expected


@given(
    first=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
    second=st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
)
def test_the_low_24_bits_of_a_sum_are_the_sum_of_the_low_24_bits(first, second):
    a, b = np.array(first, dtype=np.uint32), np.array(second, dtype=np.uint32)
    whole = pack(a + b, word_bits=24)
    low = [unpack(pack(x, word_bits=24), word_bits=24, num_words=3) for x in (a, b)]
    assert pack(low[0] + low[1], word_bits=24) == whole


@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_the_ends_of_the_range(word_bits):
    half = 2 ** (word_bits - 1)
    ends = np.array([-half, -1, 0, half - 1], dtype=np.int64)
    data = pack(to_words(ends, word_bits=word_bits), word_bits=word_bits)
    words = unpack(data, word_bits=word_bits, num_words=4)
    assert np.array_equal(centre(words, word_bits=word_bits), ends)


def test_int32_is_not_copied_on_the_way_to_uint32():
    integers = np.array([1, -1], dtype=np.int32)
    assert np.shares_memory(integers, to_words(integers, word_bits=32))


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("change", [-1, 1])
def test_unpack_blames_the_peer_for_a_wrong_length(word_bits, change):
    data = bytes(4 * word_bits // 8 + change)
    with pytest.raises(RemoteProtocolError, match="hospital-3") as caught:
        unpack(data, word_bits=word_bits, num_words=4, peer="hospital-3")
    assert caught.value.reason is Misbehaviour.MALFORMED


@pytest.mark.parametrize("word_bits", [0, 8, 17, 64, -24])
def test_other_widths_are_refused(word_bits):
    with pytest.raises(ValueError, match="word_bits"):
        word_dtype(word_bits)


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="signed"):
        to_words(np.zeros(3), word_bits=32)
    with pytest.raises(ValueError, match="signed"):
        to_words(np.zeros((3, 1), np.int32), word_bits=32)
    with pytest.raises(ValueError, match="expected"):
        pack(np.zeros(3, np.uint32), word_bits=16)
    with pytest.raises(ValueError, match="expected"):
        centre(np.zeros(3, np.uint16), word_bits=24)
    with pytest.raises(ValueError, match="num_words"):
        unpack(b"", word_bits=24, num_words=-1)
