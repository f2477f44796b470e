"""Masks against a block-by-block AES oracle, at every offset, dtype and thread count."""

from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from protocol.masks import CHUNK_BYTES, add_mask, add_masks

KEY = bytes(range(32))
DTYPES = [np.uint32, np.uint16]


def oracle_stream(key: bytes, *, start: int, count: int, word_bytes: int) -> list[int]:
    """Words of AES-256-CTR, one ECB block at a time, as Python ints."""
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - CTR by hand
    words = []
    for index in range(start, start + count):
        block, position = divmod(index * word_bytes, 16)
        out = ecb.update(block.to_bytes(16, "big"))
        words.append(int.from_bytes(out[position : position + word_bytes], "little"))
    return words


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
@given(
    key=st.binary(min_size=32, max_size=32),
    offset=st.integers(0, 10**9),
    start=st.lists(st.integers(0, 2**16 - 1), max_size=40),
)
def test_add_mask_equals_the_ecb_oracle(dtype, sign, key, offset, start):
    words = np.array(start, dtype=dtype)
    add_mask(words, key, sign=sign, offset_words=offset)
    size = words.itemsize
    stream = oracle_stream(key, start=offset, count=len(start), word_bytes=size)
    expected = [(a + sign * m) % 256**size for a, m in zip(start, stream, strict=True)]
    assert words.tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_plus_and_minus_cancel(dtype):
    words = np.arange(1000, dtype=dtype)
    add_mask(words, KEY, sign=1)
    assert not np.array_equal(words, np.arange(1000, dtype=dtype))
    add_mask(words, KEY, sign=-1)
    assert np.array_equal(words, np.arange(1000, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vector_can_be_masked_in_pieces(dtype):
    size = 3 * CHUNK_BYTES // np.dtype(dtype).itemsize + 7
    whole = np.zeros(size, dtype=dtype)
    add_mask(whole, KEY, sign=1)
    pieces = np.zeros(size, dtype=dtype)
    edges = [0, 1, 3, 1000, size // 2 + 1, size]
    for a, b in pairwise(edges):
        add_mask(pieces[a:b], KEY, sign=1, offset_words=a)
    assert np.array_equal(whole, pieces)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", [-1, 0, 1, 5])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 9])
def test_add_masks_is_bit_identical_for_any_thread_count(dtype, extra, num_threads, monkeypatch):
    monkeypatch.setattr("protocol.masks._BYTES_PER_THREAD", 1)
    size = 4 * CHUNK_BYTES // np.dtype(dtype).itemsize + extra
    masks = [(bytes([i]) * 32, 1 if i % 2 else -1) for i in range(5)]
    one_by_one = np.arange(size).astype(dtype)
    together = one_by_one.copy()
    for key, sign in masks:
        add_mask(one_by_one, key, sign=sign)
    add_masks(together, masks[::-1], num_threads=num_threads)
    assert np.array_equal(one_by_one, together)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_tiny_vectors(size):
    words = np.zeros(size, dtype=np.uint32)
    add_masks(words, [(KEY, 1)], num_threads=2)
    assert words.tolist() == oracle_stream(KEY, start=0, count=size, word_bytes=4)


def test_no_masks_change_nothing():
    words = np.arange(5, dtype=np.uint32)
    add_masks(words, [])
    assert words.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "words",
    [
        np.zeros(4, np.int32),
        np.zeros(4, np.uint64),
        np.zeros(4, np.float32),
        np.zeros(4, ">u4"),
        np.zeros((2, 2), np.uint32),
        np.zeros(8, np.uint32)[::2],
        [0, 0],
    ],
    ids=["int32", "uint64", "float32", "big-endian", "2-d", "strided", "list"],
)
def test_other_arrays_are_refused(words):
    with pytest.raises(ValueError, match="expected a"):
        add_mask(words, KEY, sign=1)
    with pytest.raises(ValueError, match="expected a"):
        add_masks(words, [(KEY, 1)])


def test_bad_keys_signs_offsets_and_threads_are_refused_and_leave_the_vector_alone():
    words = np.zeros(4, np.uint32)
    with pytest.raises(ValueError, match="32 bytes"):
        add_masks(words, [(KEY, 1), (KEY[:31], 1)])
    with pytest.raises(ValueError, match="32 bytes"):
        add_mask(words, bytearray(KEY), sign=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sign"):
        add_mask(words, KEY, sign=0)
    with pytest.raises(ValueError, match="offset"):
        add_mask(words, KEY, sign=1, offset_words=-1)
    with pytest.raises(ValueError, match="num_threads"):
        add_masks(words, [(KEY, 1)], num_threads=0)
    with pytest.raises(ValueError, match="once"):
        add_masks(words, [(KEY, 1), (KEY, -1)])
    frozen = np.zeros(4, np.uint32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        add_mask(frozen, KEY, sign=1)
    assert not words.any()


def test_errors_never_show_the_key():
    with pytest.raises(ValueError, match="mask key") as caught:
        add_mask(np.zeros(4, np.uint32), b"secret-key-bytes", sign=1)
    assert "secret" not in str(caught.value)
