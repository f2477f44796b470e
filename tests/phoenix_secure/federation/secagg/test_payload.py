"""Clipping and rounding: idempotent, unbiased, within the stated bound of the exact mean."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.secagg.clipping import clip_update
from phoenix_secure.federation.secagg.payload import (
    Payload,
    decode_sum,
    encode_update,
)
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.training.local import LocalUpdate

VECTORS = arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32))


def terms(d: int, *overrides: str) -> SecureTerms:
    config = load_config(None, ["secure_aggregation.clip_norm=1000", *overrides])
    return choose_terms(config, num_parameters=d, largest_site=100)


def update(delta: np.ndarray, *, num_images: int = 60) -> LocalUpdate:
    return LocalUpdate(
        delta=delta.astype(np.float32), num_images=num_images, num_steps=3, loss=0.5, seconds=1.0
    )


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@given(VECTORS, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_clipping_bounds_norm_and_coordinates_and_is_idempotent(
    delta: np.ndarray, clip_norm: float, clip_value: float
) -> None:
    clipped, was_clipped = clip_update(delta, clip_norm=clip_norm, clip_value=clip_value)
    assert np.linalg.norm(clipped.astype(np.float64)) <= clip_norm * (1 + 1e-6)
    assert np.abs(clipped.astype(np.float64)).max() <= clip_value
    again, _ = clip_update(clipped, clip_norm=clip_norm, clip_value=clip_value)
    np.testing.assert_allclose(again, clipped, rtol=1e-6)
    inside = (
        np.linalg.norm(delta.astype(np.float64)) < clip_norm * 0.999
        and np.abs(delta).max() < clip_value * 0.999
    )
    if inside:
        assert not was_clipped
        np.testing.assert_array_equal(clipped, delta)


def test_clipping_matches_the_definition_and_leaves_the_input_alone() -> None:
    delta = np.array([3.0, 4.0], np.float32)
    clipped, was_clipped = clip_update(delta, clip_norm=1.0, clip_value=10.0)
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-6)
    assert was_clipped
    np.testing.assert_array_equal(delta, [3.0, 4.0])
    clipped, was_clipped = clip_update(delta, clip_norm=100.0, clip_value=3.5)
    np.testing.assert_array_equal(clipped, np.array([3.0, 3.5], np.float32))
    assert was_clipped


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_update_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        clip_update(np.array([0.0, value], np.float32), clip_norm=1.0, clip_value=1.0)


@pytest.mark.parametrize("clips", [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_clips_that_are_not_positive_are_refused(clips: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="clips > 0"):
        clip_update(np.zeros(2, np.float32), clip_norm=clips[0], clip_value=clips[1])


@given(st.integers(0, 2**32), st.sampled_from([16, 24, 32]))
def test_decoded_mean_is_within_the_stated_bound(seed: int, word_bits: int) -> None:
    rng = np.random.default_rng(seed)
    agreed = terms(50, f"secure_aggregation.word_bits={word_bits}")
    sizes = rng.integers(1, 100, 5)
    deltas = rng.normal(0, 0.2, (5, 50)).astype(np.float32)
    payloads = [
        encode_update(update(delta, num_images=int(size)), terms=agreed, rounding_key=rng.bytes(32))
        for delta, size in zip(deltas, sizes, strict=True)
    ]
    modulus = 1 << word_bits
    total = np.sum([p.words.astype(np.int64) for p in payloads], axis=0)
    dtype = np.uint16 if word_bits == 16 else np.uint32
    words = (total % modulus).astype(dtype)
    extra = tuple(sum(column) for column in zip(*(p.extra for p in payloads), strict=True))
    mean, metrics = decode_sum(words, extra, num_sites=5, terms=agreed)
    clipped = np.clip(deltas, -agreed.clip_value, agreed.clip_value).astype(np.float64)
    exact = (clipped * sizes[:, None]).sum(axis=0) / sizes.sum()
    bound = agreed.rounding_bound(num_sites=5, num_images=int(sizes.sum()))
    # w * delta is a float32 product: 2^-24 of it on top.
    assert np.abs(mean - exact).max() < bound + 2**-24 * 2
    assert metrics.num_images == sizes.sum()


def test_rounding_error_has_no_bias_and_the_stated_deviation() -> None:
    agreed = terms(20_000, "secure_aggregation.word_bits=16")
    delta = np.random.default_rng(0).normal(0, 0.1, 20_000)
    payload = encode_update(update(delta, num_images=128), terms=agreed, rounding_key=key(7))
    error = payload.words / agreed.scale - np.float32(delta).astype(np.float64)
    sigma = 1 / (2 * agreed.scale)
    assert abs(error.mean()) < 5 * sigma / 20_000**0.5
    # Stochastic rounding of uniform fractions: variance 1/6 of a step squared, at most 1/4.
    assert 0.7 * sigma < error.std() < sigma


def test_same_key_repeats_the_rounding_and_another_one_does_not() -> None:
    agreed = terms(500)
    delta = np.random.default_rng(1).normal(0, 0.1, 500)
    one, two, other = (
        encode_update(update(delta), terms=agreed, rounding_key=key(k)) for k in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.words, two.words)
    assert np.abs(one.words - other.words).max() == 1


def test_update_of_another_size_is_refused_and_none_is_shown() -> None:
    with pytest.raises(ValueError, match="9 parameters"):
        encode_update(update(np.zeros(8)), terms=terms(9), rounding_key=key(1))
    payload = encode_update(update(np.full(9, 0.123)), terms=terms(9), rounding_key=key(1))
    assert repr(payload) == "<Payload of 9 words>"


@pytest.mark.parametrize("clip_value", [0.1, 0.3, 1 / 3, 1e-6])
def test_clip_that_no_float32_equals_never_breaks_the_encoding(clip_value: float) -> None:
    agreed = terms(4, f"secure_aggregation.clip_value={clip_value!r}")
    delta = np.array([1.0, -1.0, clip_value, -clip_value])
    payload = encode_update(update(delta, num_images=128), terms=agreed, rounding_key=key(1))
    assert np.abs(payload.words).max() <= agreed.fixed_point.max_integer


def summed(agreed: SecureTerms, updates: list[LocalUpdate]) -> tuple[np.ndarray, tuple[int, ...]]:
    payloads = [encode_update(each, terms=agreed, rounding_key=key(1)) for each in updates]
    words = np.sum([p.words.astype(np.int64) for p in payloads], axis=0) % (1 << agreed.word_bits)
    extra = tuple(sum(column) for column in zip(*(p.extra for p in payloads), strict=True))
    return words.astype(np.uint32), extra


@pytest.mark.parametrize("private", [False, True], ids=["plain", "record"])
def test_failures_leave_the_mean_of_those_that_trained(private: bool) -> None:
    more = ["privacy.unit=record", "privacy.noise_multiplier=1"] if private else []
    agreed = terms(30, *more)
    rng = np.random.default_rng(3)
    trained = [update(rng.normal(0, 0.2, 30), num_images=20 + k) for k in range(4)]
    failed = dataclasses.replace(update(np.ones(30)), failed=True)
    mean, metrics = decode_sum(*summed(agreed, [*trained, failed]), num_sites=5, terms=agreed)
    expected, _ = decode_sum(*summed(agreed, trained), num_sites=4, terms=agreed)
    np.testing.assert_array_equal(mean, expected)
    assert metrics.num_failed == 1
    with pytest.raises(TrainingError, match="the training of 2 of 5 sites failed"):
        decode_sum(*summed(agreed, [*trained[1:], failed, failed]), num_sites=5, terms=agreed)


def test_a_site_that_sits_out_counts_as_one_image_and_its_residual_waits() -> None:
    agreed = terms(30, "exchange.error_feedback=true")
    delta = np.random.default_rng(3).normal(0, 0.2, 30)
    out = dataclasses.replace(update(delta, num_images=100), sat_out=True)
    one = encode_update(update(delta, num_images=1), terms=agreed, rounding_key=key(1))
    for residual in (None, np.full(30, 0.5, np.float32)):
        found = encode_update(out, terms=agreed, rounding_key=key(1), residual=residual)
        np.testing.assert_array_equal(found.words, one.words)
        assert (found.extra, found.residual) == (one.extra, None)


def test_a_site_that_sits_out_under_differential_privacy_enters_zeros() -> None:
    agreed = terms(30, "privacy.unit=record", "privacy.noise_multiplier=1")
    out = dataclasses.replace(update(np.ones(30)), sat_out=True)
    inside = update(np.ones(30))
    found = [encode_update(each, terms=agreed, rounding_key=key(1)) for each in (out, inside)]
    assert not found[0].words.any()
    assert found[0].extra == found[1].extra
    with pytest.raises(TrainingError, match="every site entered zeros"):
        decode_sum(*summed(agreed, [out] * 5), num_sites=5, terms=agreed)


def test_a_kept_answer_holds_words_plus_noise_and_never_the_words() -> None:
    settings = ["privacy.unit=site", "privacy.epsilon=8", "privacy.clip_norm=2"]
    agreed = terms(400, *settings, "secure_aggregation.word_bits=32")
    delta = np.random.default_rng(0).normal(0, 0.05, 400)
    made = encode_update(update(delta), terms=agreed, rounding_key=key(1))
    assert made.noise is not None
    content = made.to_bytes()
    for dtype in (np.int32, np.int64):
        assert made.words.astype(dtype)[:8].tobytes() not in content
        assert made.noise.astype(dtype)[:8].tobytes() not in content
    largest = agreed.fixed_point.max_integer
    again = Payload.from_bytes(content, max_word=largest)
    assert again.noise is not None
    np.testing.assert_array_equal(again.words + again.noise, made.words + made.noise)
    # A session takes it: words within the clip, the rest within what noise may be.
    assert np.abs(again.words).max() <= largest
    assert np.abs(again.noise).max() <= max(np.abs(made.noise).max(), 1)
    assert again.extra == made.extra
    assert Payload.from_bytes(content, max_word=largest).to_bytes() == content


def whole_vector_oracle(
    delta: np.ndarray,
    *,
    agreed: SecureTerms,
    rounding_key: bytes,
    num_images: int,
    residual: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """The same on whole vectors: clip, weigh, round, and what rounding left out."""
    delta = delta if residual is None else delta + residual
    norm = math.sqrt(float(np.square(delta, dtype=np.float64).sum()))
    values = delta.astype(np.float32)
    if norm > agreed.clip_norm:
        values[:] = np.multiply(values, agreed.clip_norm / norm, dtype=np.float64)
    limit = np.float32(agreed.clip_value)
    is_far = bool(np.abs(values).max() > limit)
    values = np.clip(values, -limit, limit)
    weight = agreed.metric_words.weight(num_images)
    values *= np.float32(weight)
    words = agreed.fixed_point.encode(values, key=rounding_key)
    lost = (values - words / agreed.scale) / weight
    left_out = None if residual is None else lost.astype(np.float32)
    return words, left_out, norm > agreed.clip_norm or is_far


@pytest.mark.parametrize("size", [1, 40, (1 << 15) + 3, 300_000])
@pytest.mark.parametrize("deviation", [0.001, 0.5, 3.0])
@pytest.mark.parametrize("has_residual", [False, True])
def test_streamed_integers_are_those_of_whole_vectors(
    size: int, deviation: float, has_residual: bool
) -> None:
    agreed = terms(size, "secure_aggregation.clip_norm=100", "secure_aggregation.clip_value=2")
    rng = np.random.default_rng(size)
    delta, left = rng.normal(0, deviation, (2, size)).astype(np.float32)
    residual = left * np.float32(0.1) if has_residual else None
    words, left_out, was_clipped = whole_vector_oracle(
        delta, agreed=agreed, rounding_key=key(3), num_images=60, residual=residual
    )
    for num_threads in (1, 3):
        found = encode_update(
            update(delta),
            terms=agreed,
            rounding_key=key(3),
            residual=residual,
            num_threads=num_threads,
        )
        np.testing.assert_array_equal(found.words, words)
        assert not found.words.flags.writeable
        if left_out is None:
            assert found.residual is None
        else:
            np.testing.assert_array_equal(found.residual, left_out)
    again = encode_update(update(delta), terms=agreed, rounding_key=key(3), residual=residual)
    expected = agreed.metric_words.encode(num_images=60, num_steps=3, loss=0.5, clipped=was_clipped)
    assert again.extra == expected
