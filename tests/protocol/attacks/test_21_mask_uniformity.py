"""Attack 21: guess a mask: structure in the stream, or keys folded into fewer bits.

flwr 1.41 folds a 256-bit key into a 32-bit seed (28 bits for its base64 keys) of MT19937, which
can be searched in seconds; the tests below would fail for it.
"""

import base64

import numpy as np
import pytest
from scipy import stats

from protocol.masks import add_mask


def stream(key, *, size=1 << 16, dtype=np.uint32):
    words = np.zeros(size, dtype=dtype)
    add_mask(words, key, sign=1)
    return words


KEY = bytes(range(32))


@pytest.mark.parametrize("bit", range(256))
def test_every_bit_of_the_key_changes_the_whole_stream(bit):
    flipped = bytearray(KEY)
    flipped[bit // 8] ^= 1 << (bit % 8)
    changed = stream(KEY, size=4096) ^ stream(bytes(flipped), size=4096)
    ones = int(np.bitwise_count(changed).sum())
    # 131,072 fair coins: five standard deviations are 905.
    assert abs(ones - 65_536) < 905
    assert np.count_nonzero(changed == 0) <= 1


def fold(key, *, size):
    """The exclusive or of all ``size``-byte parts of a key; flwr 1.41 takes 4 bytes."""
    return np.bitwise_xor.reduce(np.frombuffer(key, dtype=np.uint8).reshape(-1, size)).tobytes()


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_keys_that_fold_to_one_seed_have_different_streams(size):
    seen = set()
    for i in range(200):
        part = i.to_bytes(1, "little") * size
        key = part + part + bytes(32 - 2 * size)
        assert fold(key, size=size) == bytes(size)
        seen.add(stream(key, size=16).tobytes())
    assert len(seen) == 200


def test_keys_of_base64_text_are_not_poorer_than_others():
    # Base64 leaves the top bit of each byte zero: a fold would keep 28 bits of it.
    texts = [base64.urlsafe_b64encode(i.to_bytes(24, "big")) for i in range(2000)]
    assert {len(text) for text in texts} == {32}
    firsts = np.array([stream(text, size=4) for text in texts])
    assert len({row.tobytes() for row in firsts}) == 2000
    assert stats.kstest(firsts.ravel() / 2**32, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("key", [KEY, bytes(32), b"\xff" * 32], ids=["counting", "zeros", "ones"])
def test_bytes_words_and_neighbours_are_uniform(dtype, key):
    words = stream(key, size=1 << 20, dtype=dtype)
    for byte in words.view(np.uint8).reshape(-1, words.itemsize).T:
        assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > 1e-6
    high = (words >> (8 * words.itemsize - 4)).astype(int)
    pairs = np.bincount(high[:-1] * 16 + high[1:], minlength=256)
    assert stats.chisquare(pairs).pvalue > 1e-6


def test_the_low_bytes_that_24_bit_words_keep_are_uniform():
    low = stream(KEY, size=1 << 20) & 0xFFFFFF
    assert stats.chisquare(np.bincount(low >> 12, minlength=4096)).pvalue > 1e-6
    assert stats.chisquare(np.bincount(low & 0xFFF, minlength=4096)).pvalue > 1e-6


def test_no_numpy_generator_is_involved(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("numpy's generators are not for masks")

    before = stream(KEY)
    for name in ("RandomState", "default_rng", "seed", "randint", "Generator"):
        monkeypatch.setattr(np.random, name, refuse)
    assert np.array_equal(stream(KEY), before)
