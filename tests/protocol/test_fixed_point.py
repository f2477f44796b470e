"""Fixed point: the exact rounding law, the exact no-wrap bound, and every refused input."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError
from protocol.fixed_point import FixedPoint
from protocol.masks import add_mask
from protocol.words import to_words

KEY = bytes(range(32))
FORMAT = FixedPoint(scale=2.0**18, clip=1.0, word_bits=32)


def oracle(values: list[float], *, scale: float, key: bytes) -> list[int]:
    """floor(x), plus one where the stream word is below the exact fraction of x times 2^32."""
    uniforms = np.zeros(len(values), dtype=np.uint32)
    add_mask(uniforms, key, sign=1)
    out = []
    for value, u in zip(values, uniforms.tolist(), strict=True):
        x = Fraction(value * scale)
        out.append(math.floor(x) + (u < (x - math.floor(x)) * 2**32))
    return out


@given(
    values=st.lists(st.floats(-3.0, 3.0), max_size=50),
    scale=st.floats(1e-3, 7e8),
    key=st.binary(min_size=32, max_size=32),
)
def test_encode_equals_the_fraction_oracle(values, scale, key):
    coded = FixedPoint(scale=scale, clip=3.0, word_bits=32).encode(np.array(values, float), key=key)
    assert coded.dtype == np.int32
    expected = oracle(values, scale=scale, key=key)
    assert coded.tolist() == expected


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e3), st.binary(min_size=32, max_size=32))
def test_no_encoding_exceeds_max_integer(scale, clip, key):
    coding = FixedPoint(scale=scale, clip=clip, word_bits=32)
    extremes = np.array([clip, -clip, np.nextafter(clip, 0), 0.0, -0.0, 5e-324, -5e-324])
    assert np.abs(coding.encode(extremes, key=key)).max() <= coding.max_integer


def test_integers_are_never_moved_even_where_adding_a_uniform_would_round():
    coding = FixedPoint(scale=1.0, clip=2.0**30, word_bits=32)
    values = np.full(1 << 20, 2.0**30)
    assert np.all(coding.encode(values, key=KEY) == 1 << 30)


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.999, 1e-3])
@pytest.mark.parametrize("base", [-7.0, 0.0, 131072.0])
def test_rounding_is_unbiased(fraction, base):
    size = 200_000
    coding = FixedPoint(scale=1.0, clip=2.0**18, word_bits=32)
    ups = coding.encode(np.full(size, base + fraction), key=KEY) - int(base)
    assert set(np.unique(ups)) <= {0, 1}
    assert abs(ups.mean() - fraction) < 5 * math.sqrt(fraction * (1 - fraction) / size)


def test_roundings_of_two_keys_are_independent():
    values = np.full(100_000, 0.5)
    coding = FixedPoint(scale=1.0, clip=1.0, word_bits=32)
    a, b = coding.encode(values, key=KEY), coding.encode(values, key=bytes(32))
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(values.size)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_dtype_is_encoded_as_its_exact_value(dtype):
    values = np.linspace(-1, 1, 1001).astype(dtype)
    assert np.array_equal(
        FORMAT.encode(values, key=KEY), FORMAT.encode(values.astype(float), key=KEY)
    )


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 50_000])
def test_every_size_is_encoded_from_one_stream(size):
    values = np.linspace(-1, 1, size)
    assert FORMAT.encode(values, key=KEY).tolist() == oracle(
        values.tolist(), scale=FORMAT.scale, key=KEY
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.nextafter(1.0, 2), -1.1])
@pytest.mark.parametrize("place", [0, 16_384, 50_000])
def test_nan_inf_and_out_of_range_are_refused_anywhere(bad, place):
    values = np.zeros(50_001)
    values[place] = bad
    with pytest.raises(LocalProtocolError, match="clip the update") as caught:
        FORMAT.encode(values, key=KEY)
    assert str(bad) not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [np.zeros((2, 2)), np.zeros(3, np.int64), np.zeros(3, complex), [0.0], np.float64(0)],
    ids=["2-d", "int", "complex", "list", "0-d"],
)
def test_other_arrays_are_refused(values):
    with pytest.raises(LocalProtocolError, match="expected a vector"):
        FORMAT.encode(values, key=KEY)


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("noise_bound", [0, 17])
def test_the_no_wrap_bound_is_exact_at_one_client_more_or_less(word_bits, noise_bound):
    coding = FixedPoint(scale=100.0, clip=1.0, word_bits=word_bits)
    most = (2 ** (word_bits - 1) - 1 - noise_bound) // 100
    coding.check_no_wrap(num_clients=most - 1, noise_bound=noise_bound)
    coding.check_no_wrap(num_clients=most, noise_bound=noise_bound)
    with pytest.raises(ValueError, match="expected a sum"):
        coding.check_no_wrap(num_clients=most + 1, noise_bound=noise_bound)


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_at_the_bound_decodes_and_one_beyond_it_would_not(word_bits, sign):
    largest = 2 ** (word_bits - 1) - 1
    coding = FixedPoint(scale=1.0, clip=1.0, word_bits=word_bits)
    at, beyond = (
        coding.decode_sum(to_words(np.array([v], np.int64), word_bits=word_bits), num_clients=1)
        for v in (sign * largest, sign * (largest + 2))
    )
    assert at[0] == sign * largest
    assert beyond[0] != sign * (largest + 2)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=9), st.sampled_from([16, 24, 32]))
def test_decode_sum_of_encodings_is_the_sum(steps, word_bits):
    coding = FixedPoint(scale=8.0, clip=5.0, word_bits=word_bits)
    total = np.zeros(1, dtype=np.int64)
    for step in steps:
        total += coding.encode(np.array([step / 8]), key=KEY)
    decoded = coding.decode_sum(to_words(total, word_bits=word_bits), num_clients=len(steps))
    assert decoded.dtype == np.float64
    assert decoded[0] == sum(steps) / 8


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.floats(1e-3, 50.0))
def test_decode_is_the_centred_integer_divided_by_scale(word_bits, values, scale):
    coding = FixedPoint(scale=scale, clip=1.0, word_bits=word_bits)
    words = np.array(values, dtype=np.uint32).astype(np.uint16 if word_bits == 16 else np.uint32)
    half = 2 ** (word_bits - 1)
    expected = [((v + half) % 2**word_bits - half) / scale for v in words.tolist()]
    assert coding.decode_sum(words, num_clients=1).tolist() == expected


def test_decode_refuses_words_of_another_width():
    with pytest.raises(ValueError, match="words"):
        FixedPoint(scale=1.0, clip=1.0, word_bits=16).decode_sum(
            np.zeros(1, np.uint32), num_clients=1
        )


def test_decode_refuses_a_cohort_that_may_have_wrapped():
    coding = FixedPoint(scale=300.0, clip=1.0, word_bits=16)
    with pytest.raises(ValueError, match="expected a sum"):
        coding.decode_sum(np.zeros(1, np.uint16), num_clients=110)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["scale", "clip"])
def test_meaningless_formats_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        FixedPoint(**{"scale": 1.0, "clip": 1.0, "word_bits": 32, name: value})


def test_formats_that_cannot_hold_one_input_are_refused():
    FixedPoint(scale=1.0, clip=32767.0, word_bits=16)
    with pytest.raises(ValueError, match="scale \\* clip"):
        FixedPoint(scale=1.0, clip=32767.5, word_bits=16)
    with pytest.raises(ValueError, match="word_bits"):
        FixedPoint(scale=1.0, clip=1.0, word_bits=20)
    with pytest.raises(ValueError, match="scale \\* clip"):
        FixedPoint(scale=1e300, clip=1e300, word_bits=32)


def test_bad_keys_and_counts_are_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        FORMAT.encode(np.zeros(1), key=b"short")
    with pytest.raises(ValueError, match="num_clients"):
        FORMAT.check_no_wrap(num_clients=0)
    with pytest.raises(ValueError, match="noise_bound"):
        FORMAT.check_no_wrap(num_clients=1, noise_bound=-1)


@pytest.mark.parametrize("size", [0, 1, (1 << 15) - 1, (1 << 15) + 1, 700_001])
def test_chunks_and_threads_change_no_integer(size):
    values = np.random.default_rng(size).uniform(-1, 1, size)
    calls = []

    def read(start, stop):
        calls.append((start, stop))
        return values[start:stop]

    expected = oracle_of_whole(values)
    for num_threads in (1, 3):
        found = FORMAT.encode_chunks(read, num_words=size, key=KEY, num_threads=num_threads)
        assert np.array_equal(found, expected)
    assert all(stop - start <= 1 << 15 for start, stop in calls)


def oracle_of_whole(values):
    """The definition on the whole vector at once."""
    uniforms = np.zeros(values.size, dtype=np.uint32)
    add_mask(uniforms, KEY, sign=1)
    x = values * FORMAT.scale
    return np.floor(x).astype(np.int32) + (uniforms < (x - np.floor(x)) * 2.0**32)


def test_a_chunk_beyond_the_clip_is_refused_on_any_thread():
    values = np.zeros(600_000)
    values[-1] = np.nan
    for num_threads in (1, 2):
        with pytest.raises(LocalProtocolError, match="clip the update"):
            FORMAT.encode_chunks(
                lambda a, b: values[a:b], num_words=values.size, key=KEY, num_threads=num_threads
            )
