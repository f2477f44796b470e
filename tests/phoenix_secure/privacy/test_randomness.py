"""Noise has the right law, is secret, and never repeats; samples follow the binomial law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from phoenix_secure.privacy.randomness import Randomness, SecureRandomness, SeededRandomness


def repeatable() -> SecureRandomness:
    """The secure generator under a fixed key: statistics without flukes."""
    return SecureRandomness(entropy=lambda size: bytes(range(size)))


def sources() -> list[Randomness]:
    return [repeatable(), SeededRandomness(3)]


@pytest.mark.parametrize("source", sources(), ids=["secure", "seeded"])
def test_noise_has_its_deviation_and_not_two_thirds_or_three_halves_of_it(
    source: Randomness,
) -> None:
    values = source.normal(20_000).numpy()
    assert stats.kstest(values, "norm").pvalue > 0.01
    for wrong in (2 / 3, 3 / 2):
        assert stats.kstest(values * wrong, "norm").pvalue < 1e-6


def test_tails_and_moments_of_the_secure_noise_are_those_of_a_normal() -> None:
    values = repeatable().normal(2_000_000).numpy()
    for bound in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(bound) * len(values)
        seen = int((np.abs(values) > bound).sum())
        assert abs(seen - expected) < 4 * math.sqrt(expected)
    assert abs(values.mean()) < 4 / math.sqrt(len(values))
    assert abs((values**4).mean() - 3) < 4 * math.sqrt(96 / len(values))
    assert np.isfinite(values).all()


def test_neighbouring_values_are_independent() -> None:
    values = repeatable().normal(200_000).numpy()
    for lag in (1, 2, 1 << 15, 1 << 16):
        correlation = np.corrcoef(values[:-lag], values[lag:])[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(len(values) - lag)
    assert len(np.unique(values)) == len(values)


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_each_value_is_half_the_sum_of_four_normals_from_four_pairs_of_words(size: int) -> None:
    source = repeatable()
    padded = max(size, 4)
    words = iter(int(word) for word in repeatable()._words(4 * padded))
    radii = [
        [math.sqrt(-2 * math.log((next(words) + 0.5) / 2**64)) for _ in range(padded)]
        for _ in range(2)
    ]
    angles = [[2 * math.pi * (next(words) + 0.5) / 2**64 for _ in range(padded)] for _ in range(2)]
    expected, used = [], set()
    for i in range(size):
        terms = [("cos", 0, i), ("cos", 1, i), ("sin", 0, i - 1), ("sin", 1, i - 2)]
        pairs = {(half, place % padded) for _, half, place in terms}
        assert len(pairs) == 4  # one pair twice would be one normal in place of two
        names = {(name, half, place % padded) for name, half, place in terms}
        assert not names & used  # nothing is used again for another value
        used |= names
        expected.append(
            sum(
                radii[half][place] * getattr(math, name)(angles[half][place])
                for name, half, place in terms
            )
            / 2
        )
    assert np.allclose(source.normal(size).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_words_are_the_ciphers_key_stream_without_a_gap() -> None:
    """In pieces of the size that the source takes, and of none."""
    sizes = [0, 1, 3, (1 << 15) - 1, 1 << 15, (1 << 15) + 7]
    source = repeatable()
    drawn = np.concatenate([source._words(size) for size in sizes])
    stream = Cipher(AES256(bytes(range(32))), CTR(bytes(16))).encryptor()
    assert drawn.tobytes() == stream.update(bytes(8 * sum(sizes)))


def test_secure_noise_never_repeats_and_no_seed_reaches_it() -> None:
    torch.manual_seed(1)
    first = SecureRandomness().normal(100)
    torch.manual_seed(1)
    second = SecureRandomness().normal(100)
    assert not torch.equal(first, second)
    before = torch.get_rng_state()
    SecureRandomness().normal(10)
    assert torch.equal(before, torch.get_rng_state())


def test_stream_goes_on_over_calls_and_takes_a_new_key_in_time(monkeypatch) -> None:
    monkeypatch.setattr("phoenix_secure.privacy.randomness._REKEY_BYTES", 1 << 12)
    keys: list[int] = []

    def entropy(size: int) -> bytes:
        keys.append(size)
        return bytes([len(keys)] * size)

    source = SecureRandomness(entropy)
    drawn = torch.cat([source.normal(100) for _ in range(10)])
    assert len(torch.unique(drawn)) == 1000
    assert keys == [32] * 10  # 3.2 kB a call, 4 kB a key


def test_key_is_in_no_text() -> None:
    source = SecureRandomness(entropy=lambda size: b"K" * size)
    assert "KKKK" not in repr(source) + repr(vars(source)) + source.name


@given(st.floats(0.001, 1.0), st.integers(1, 2000))
def test_sample_is_sorted_unique_and_within_range(probability: float, num: int) -> None:
    for source in sources():
        drawn = source.included(num, probability=probability)
        assert drawn.dtype == np.int64
        assert (np.diff(drawn) > 0).all()
        assert not len(drawn) or (drawn[0] >= 0 and drawn[-1] < num)
    assert len(repeatable().included(num, probability=1.0)) == num


@pytest.mark.parametrize("source", sources(), ids=["secure", "seeded"])
@pytest.mark.parametrize("probability", [0.02, 0.3])
def test_sizes_of_samples_follow_the_binomial_law(source: Randomness, probability: float) -> None:
    num, draws = 40, 4000
    sizes = np.array([len(source.included(num, probability=probability)) for _ in range(draws)])
    law = stats.binom(num, probability)
    edges = np.unique(law.ppf([0.1, 0.3, 0.5, 0.7, 0.9]))
    cdf = np.concatenate([[0.0], law.cdf(edges), [1.0]])
    seen = np.histogram(sizes, bins=[-1, *edges + 0.5, num + 1])[0]
    expected = np.diff(cdf) * draws
    assert stats.chisquare(seen, expected).pvalue > 0.001
    shifted = np.histogram(sizes + 1, bins=[-1, *edges + 0.5, num + 1])[0]
    assert stats.chisquare(shifted, expected).pvalue < 1e-6


def test_every_image_is_included_alike_and_independently() -> None:
    source, num, draws, probability = repeatable(), 30, 5000, 0.1
    member = np.zeros((draws, num), bool)
    for draw in member:
        draw[source.included(num, probability=probability)] = True
    rates = member.mean(axis=0)
    deviation = math.sqrt(probability * (1 - probability) / draws)
    assert np.abs(rates - probability).max() < 4.5 * deviation
    both = (member[:, 0] & member[:, 1]).mean()
    assert abs(both - probability**2) < 5 * math.sqrt(probability**2 / draws)


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_rates_are_refused(probability: float) -> None:
    for source in sources():
        with pytest.raises(ValueError, match="probability"):
            source.included(10, probability=probability)


@pytest.mark.parametrize("source", sources(), ids=["secure", "seeded"])
@pytest.mark.parametrize("below", [1, 2, 5, 1000])
def test_whole_numbers_are_uniform(source: Randomness, below: int) -> None:
    drawn = source.integers(50_000, below=below).numpy()
    assert drawn.dtype == np.int64
    seen = np.bincount(drawn, minlength=below)
    assert len(seen) == below
    if below > 1:
        assert stats.chisquare(seen).pvalue > 0.001
        tilted = seen * (1 + 0.5 * np.arange(below) / below)
        assert stats.chisquare(tilted, np.full(below, tilted.mean())).pvalue < 1e-6


@pytest.mark.parametrize("below", [0, -1, 2**32 + 1])
def test_impossible_ranges_are_refused(below: int) -> None:
    for source in sources():
        with pytest.raises(ValueError, match="below"):
            source.integers(3, below=below)


def test_seeded_draws_repeat_and_go_on_under_new_keys(monkeypatch) -> None:
    monkeypatch.setattr("phoenix_secure.privacy.randomness._REKEY_BYTES", 1 << 12)
    one, two = SeededRandomness(7), SeededRandomness(7)
    first, second = (torch.cat([s.normal(100) for _ in range(10)]) for s in (one, two))
    assert torch.equal(first, second)
    assert len(torch.unique(first)) == 1000  # ten keys


def test_seeded_noise_defeats_the_attack_on_gaps_as_the_secure_one_does() -> None:
    """Four terms a value in both: a single Box-Muller draw leaves most float64 values out."""
    value = SeededRandomness(1).normal(4).numpy()
    words = SeededRandomness(1)._words(16).reshape(2, 2, 4)
    radius = np.sqrt(-2 * np.log((words[0] + 0.5) / 2**64))
    angle = 2 * np.pi * (words[1] + 0.5) / 2**64
    cosines, sines = radius * np.cos(angle), radius * np.sin(angle)
    expected = (cosines[0] + cosines[1] + np.roll(sines[0], 1) + np.roll(sines[1], 2)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-9)
