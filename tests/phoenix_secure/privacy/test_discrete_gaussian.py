"""The sampler has the discrete Gaussian's law, and a sum of shares has it too."""

import hashlib
import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chisquare

from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.discrete_gaussian import _decided, draw_discrete_gaussian
from phoenix_secure.privacy.events import (
    DiscreteGaussianSum,
    PoissonSampledGaussian,
    event_from_dict,
    event_to_dict,
    merge,
    unit_of,
)


def stream(label: str) -> Callable[[int], bytes]:
    """Repeatable bytes."""
    counter = itertools.count()
    return lambda size: hashlib.shake_256(f"{label}:{next(counter)}".encode()).digest(size)


def law(variance: float, values: np.ndarray) -> np.ndarray:
    """P[X = k] of N_Z(0, variance), from its definition."""
    wide = np.arange(
        -60 * math.isqrt(math.ceil(variance)) - 60, 60 * math.isqrt(math.ceil(variance)) + 61
    )
    total = np.exp(-(wide**2) / (2 * variance)).sum()
    return np.asarray(np.exp(-(values**2) / (2 * variance)) / total)


def p_value(drawn: np.ndarray, variance: float) -> float:
    """Of a chi-square test against the law, rare values taken together at both ends."""
    reach = int(2.5 * math.sqrt(variance)) + 1
    values = np.arange(-reach, reach + 1)
    expected = law(variance, values) * drawn.size
    tail = (drawn.size - expected.sum()) / 2
    expected[[0, -1]] += tail
    observed = np.bincount(np.clip(drawn, -reach, reach) + reach, minlength=values.size)
    return float(chisquare(observed, expected).pvalue)


@pytest.mark.parametrize("variance", [1, 3, 20])
def test_draws_have_the_law(variance: int) -> None:
    drawn = draw_discrete_gaussian(40_000, variance=variance, entropy=stream(f"law {variance}"))

    assert p_value(drawn, variance) > 0.001
    assert p_value(drawn, variance * 1.5) < 1e-6
    assert p_value(drawn, variance / 1.5) < 1e-6


def test_large_variances_have_the_moments() -> None:
    variance = 10**11 + 3
    drawn = draw_discrete_gaussian(60_000, variance=variance, entropy=stream("large"))
    scaled = drawn / math.sqrt(variance)

    assert abs(scaled.mean()) < 4 / math.sqrt(drawn.size)
    assert abs(scaled.var() - 1) < 4 * math.sqrt(2 / drawn.size)
    assert abs((scaled**4).mean() - 3) < 4 * math.sqrt(96 / drawn.size)
    assert (drawn % 2 == 1).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("num_shares", [3, 4, 5])
def test_sums_of_shares_have_the_law_of_their_variance(num_shares: int) -> None:
    total = sum(
        draw_discrete_gaussian(30_000, variance=4, entropy=stream(f"share {num_shares} {index}"))
        for index in range(num_shares)
    )

    assert p_value(np.asarray(total), 4 * num_shares) > 0.001


def test_shares_keep_the_bound_that_the_accounting_names() -> None:
    # tau = 10 sum_k exp(-2 pi^2 v k / (k + 1)), tested where it can be seen: v = 1/2, two shares.
    variance = 0.5
    wide = np.arange(-40, 41)
    one = law(variance, wide)
    two = np.convolve(one, one)[40:-40]
    tau = 10 * math.exp(-2 * math.pi**2 * variance / 2)
    near = np.abs(wide) <= 6

    ratio = np.log(two[near]) - np.log(law(2 * variance, wide[near]))
    assert np.abs(ratio).max() <= tau
    assert np.abs(ratio).max() > tau / 1000


def test_coins_that_floating_point_cannot_decide_are_decided_by_more_digits() -> None:
    with localcontext() as context:
        context.prec = 80
        digits = int(Decimal(-1).exp() * (1 << 192))
    word, rest = digits >> 128, digits & ((1 << 128) - 1)
    first, second = (rest >> 64).to_bytes(8, "little"), rest & ((1 << 64) - 1)

    def then(last: int) -> bool:
        parts = iter([first, last.to_bytes(8, "little")])
        return _decided(word, Fraction(1), lambda size: next(parts))

    assert then(second - 2)
    assert not then(second + 3)


@pytest.mark.parametrize("shift", [1, 5, 9, 20])
def test_the_discrete_mechanism_spends_no_more_than_the_gaussian_that_dominates_it(
    shift: int,
) -> None:
    event = DiscreteGaussianSum(
        num_words=1,
        sampling_rate=1.0,
        l2_sensitivity=float(shift),
        share_variance=64.0,
        num_shares=2,
        steps=1,
    )
    z = event.gaussian.noise_multiplier
    values = np.arange(-400, 401)
    here, there = law(128, values), law(128, values - shift)

    for epsilon in (0.0, 0.1, 0.5, 1.0, 2.0, 4.0):
        discrete = np.maximum(here - math.exp(epsilon) * there, 0).sum()
        gaussian = ndtr(0.5 / z - epsilon * z) - math.exp(epsilon) * ndtr(-0.5 / z - epsilon * z)
        assert discrete <= gaussian + 1e-15
        assert epsilon > 0 or discrete >= 0.8 * gaussian  # what is given up is 16 of 128


def test_both_accountants_answer_for_it_and_it_composes_with_dp_sgd() -> None:
    release = DiscreteGaussianSum(
        num_words=1000,
        sampling_rate=1.0,
        l2_sensitivity=1000.0,
        share_variance=3e6,
        num_shares=3,
        steps=1,
    )
    training = PoissonSampledGaussian(sampling_rate=0.01, noise_multiplier=1.2, steps=100)
    alone = epsilon_of([release], delta=1e-5)
    both = epsilon_of([release, training], delta=1e-5)

    assert {"pld (dp-accounting)", "prv (opacus)"} <= set(alone.figures)
    assert alone.value < both.value < alone.value + epsilon_of([training], delta=1e-5).value
    assert event_from_dict(event_to_dict(release)) == release
    assert merge([release, release])[0].steps == 2
    assert unit_of(release) == "record"


def test_shares_too_small_for_the_proof_are_refused() -> None:
    with pytest.raises(ValueError, match="share_variance >= 64"):
        DiscreteGaussianSum(
            num_words=1,
            sampling_rate=1.0,
            l2_sensitivity=1.0,
            share_variance=63.0,
            num_shares=3,
            steps=1,
        )


@pytest.mark.parametrize("variance", [0, -1, 1.5, 2**53])
def test_other_variances_are_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="whole variance"):
        draw_discrete_gaussian(1, variance=variance, entropy=stream("refused"))  # type: ignore[arg-type]
