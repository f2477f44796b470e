"""Sums of honest sites pass, whatever they hold; what is beyond their bounds does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.secagg.payload import decode_sum, encode_update
from phoenix_secure.federation.secagg.possible_sums import check_sum, noise_norm_bound
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.training.local import LocalUpdate
from protocol.words import to_words

D = 400
PLAIN = ["secure_aggregation.clip_norm=2", "secure_aggregation.clip_value=0.5"]
SITE = [
    "privacy.unit=site",
    "privacy.epsilon=8",
    "privacy.clip_norm=2",
    "partition.num_sites=8",
    "secure_aggregation.word_bits=32",
]


def terms_of(*settings: str) -> SecureTerms:
    return choose_terms(load_config(None, list(settings)), num_parameters=D, largest_site=100)


def summed(terms: SecureTerms, deltas: list[np.ndarray], images: list[int]):
    """The words and counts that honest sites' payloads add up to."""
    words = np.zeros(terms.num_words, np.int64)
    extra = np.zeros(len(terms.metric_words.bounds), np.int64)
    for place, (delta, count) in enumerate(zip(deltas, images, strict=True)):
        update = LocalUpdate(
            delta=delta.astype(np.float32), num_images=count, num_steps=3, loss=1.0, seconds=0.0
        )
        payload = encode_update(update, terms=terms, rounding_key=bytes([place]) * 32)
        words += payload.words
        if payload.noise is not None:
            words += payload.noise
        extra += payload.extra
    return words, tuple(int(value) for value in extra)


def decoded(terms: SecureTerms, words: np.ndarray, extra, num_sites: int) -> np.ndarray:
    packed = to_words(words.astype(np.int32), word_bits=terms.word_bits)
    return decode_sum(packed, extra, num_sites=num_sites, terms=terms)[0]


@pytest.mark.parametrize("settings", [PLAIN, SITE, [*PLAIN, "secure_aggregation.word_bits=16"]])
@pytest.mark.parametrize("shape", ["all alike", "one coordinate", "random", "zero"])
def test_honest_sums_pass_even_where_everybody_is_clipped(settings: list[str], shape: str) -> None:
    terms = terms_of(*settings)
    n = terms.cohort_size
    rng = np.random.default_rng(5)
    deltas = {
        "all alike": [np.ones(D) * 10] * n,
        "one coordinate": [np.eye(1, D, 7)[0] * 100] * n,
        "random": [rng.normal(0, 5, D) for _ in range(n)],
        "zero": [np.zeros(D)] * n,
    }[shape]
    words, extra = summed(terms, deltas, [100, 1, 50, 100, 3, 100, 7, 100][:n])
    mean = decoded(terms, words, extra, n)
    if terms.noise is None:
        slack = terms.max_images * n / (terms.scale * extra[0])
        assert np.linalg.norm(mean) <= terms.clip_norm * (1 + 1e-5) + slack * math.sqrt(D)
        assert np.abs(mean).max() <= terms.clip_value * (1 + 1e-5) + slack


@pytest.fixture
def plain() -> SecureTerms:
    return terms_of(*PLAIN)


def test_what_no_honest_sites_enter_is_refused(plain: SecureTerms) -> None:
    words, extra = summed(plain, [np.full(D, 0.01)] * 5, [100] * 5)
    decoded(plain, words, extra, 5)
    for sign in (1, -1):
        far = words.copy()
        far[3] += sign * int(5 * plain.scale)
        with pytest.raises(ValueError, match="clip_value"):
            decoded(plain, far, extra, 5)
    long = words + int(0.2 * plain.scale * 5)  # each coordinate is within its bound
    with pytest.raises(ValueError, match="clip_norm"):
        decoded(plain, long, extra, 5)
    for counts in ((-1, *extra[1:]), (extra[0] + 600, *extra[1:]), (2, *extra[1:])):
        with pytest.raises(ValueError, match="expected"):
            decoded(plain, words, counts, 5)


def test_negative_count_cannot_amplify_the_update_beyond_the_clip(plain: SecureTerms) -> None:
    """A count of -450 among 500 would make everybody's update ten times as large."""
    words, extra = summed(plain, [np.full(D, 0.09)] * 5, [100] * 5)
    with pytest.raises(ValueError, match="together"):
        decoded(plain, words, (extra[0] - 450, *extra[1:]), 5)


def test_hidden_metrics_are_the_constants_that_they_should_be() -> None:
    terms = terms_of(*SITE)
    words, extra = summed(terms, [np.zeros(D)] * 8, [100] * 8)
    decoded(terms, words, extra, 8)
    with pytest.raises(ValueError, match="constant counts"):
        decoded(terms, words, (*extra[:-2], 1, 0), 8)
    with pytest.raises(ValueError, match="no count of failures"):
        decoded(terms, words, (extra[0] - 1, *extra[1:-1], 1), 8)


def test_count_of_updates_within_an_adaptive_norm_is_bounded() -> None:
    terms = terms_of(*SITE, "privacy.adaptive_clip=true")
    total = np.zeros(terms.num_words)
    check_sum(total, weight=8.0, num_sites=8, terms=terms)
    total[-1] = 1e6
    with pytest.raises(ValueError, match="more updates counted"):
        check_sum(total, weight=8.0, num_sites=8, terms=terms)


@pytest.mark.parametrize("variance", [0.5, 40.0, 1e6])
@pytest.mark.parametrize("num_words", [1, 100, 10_000])
def test_the_noise_stays_below_its_bound_and_not_far_below(variance: float, num_words: int) -> None:
    rng = np.random.default_rng(1)
    draws = rng.poisson(variance / 2, (2, 200, num_words))
    norms = np.linalg.norm((draws[0] - draws[1]).astype(float), axis=1)
    bound = noise_norm_bound(variance, num_words=num_words)
    assert norms.max() < bound
    if num_words == 10_000:
        assert bound < 1.5 * math.sqrt(num_words * variance)
    assert noise_norm_bound(0.0, num_words=num_words) == 0
