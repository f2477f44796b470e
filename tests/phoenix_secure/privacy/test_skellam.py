"""Skellam: the law, sums of shares, and the RDP bound against direct summation."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chisquare, skellam

from phoenix_secure.privacy.events import SkellamSum
from phoenix_secure.privacy.skellam import SkellamTable, sampler_delta, skellam_rdp


def counter_entropy(seed: int):
    rng = np.random.default_rng(seed)
    return rng.bytes


def summed_rdp(mu: float, shift: tuple[int, ...], order: int) -> float:
    """The divergence of order alpha of Skellam(mu)^d and its shift by direct summation."""
    reach = int(20 * math.sqrt(mu)) + 20 + 4 * order * max(map(abs, shift))
    x = np.arange(-reach, reach + 1)
    total = 0.0
    for step in shift:  # coordinates are independent: divergences add up
        p, q = skellam.logpmf(x - step, mu / 2, mu / 2), skellam.logpmf(x, mu / 2, mu / 2)
        keep = np.isfinite(p) & np.isfinite(q)
        total += float(logsumexp(order * p[keep] - (order - 1) * q[keep])) / (order - 1)
    return total


@pytest.mark.parametrize("mu", [20.0, 100.0, 400.0])
@pytest.mark.parametrize("shift", [(5,), (3, 4), (1, 1, 1, 1), (1, -2, 2)])
@pytest.mark.parametrize("order", [2, 3, 8])
def test_rdp_bound_holds_and_is_near(mu: float, shift: tuple[int, ...], order: int) -> None:
    d2 = math.sqrt(sum(s * s for s in shift))
    event = SkellamSum(num_words=len(shift), l2_sensitivity=d2, variance=mu, releases=1)
    bound, exact = skellam_rdp(event, order=order), summed_rdp(mu, shift, order)
    assert exact <= bound + 1e-9
    # The bound is the Gaussian's and little more: within a quarter where the noise is not tiny.
    assert bound < (1.25 if mu >= 100 else 2.2) * exact


def test_rdp_agrees_with_the_figures_of_the_reference() -> None:
    small = SkellamSum(num_words=1, l2_sensitivity=5.0, variance=100.0, releases=1)
    assert summed_rdp(100.0, (5,), 8) == pytest.approx(0.969, abs=0.002)
    assert skellam_rdp(small, order=8) == pytest.approx(1.010, abs=0.002)
    large = SkellamSum(num_words=1, l2_sensitivity=10.0, variance=1000.0, releases=1)
    assert skellam_rdp(large, order=32) == pytest.approx(1.602, abs=0.001)


@pytest.mark.parametrize("order", [1, 0, 2.5])
def test_rdp_of_other_orders_is_refused(order: float) -> None:
    event = SkellamSum(num_words=1, l2_sensitivity=5.0, variance=100.0, releases=1)
    with pytest.raises(ValueError, match="order"):
        skellam_rdp(event, order=order)  # type: ignore[arg-type]


@pytest.mark.parametrize("variance", [0.3, 4.0, 90.0, 5000.0])
def test_table_is_the_law(variance: float) -> None:
    table = SkellamTable(variance)
    k = np.arange(table._low, table._low + len(table._full))
    thresholds = np.array([each / 2.0**128 for each in table._full])
    law = skellam.cdf(k, variance / 2, variance / 2)
    np.testing.assert_allclose(thresholds, law, atol=5e-14)
    assert table.total_variation < 2.0**-110


def test_draws_follow_the_law_and_not_that_of_less_or_more_noise() -> None:
    draws = SkellamTable(9.0).draw(200_000, entropy=counter_entropy(5))
    edges = np.arange(-8, 9)
    seen = np.array([(draws == k).sum() for k in edges])

    def p_value(variance: float) -> float:
        expected = skellam.pmf(edges, variance / 2, variance / 2)
        counts = np.append(seen, len(draws) - seen.sum())
        law = np.append(expected, 1 - expected.sum()) * len(draws)
        return float(chisquare(counts, law).pvalue)

    assert p_value(9.0) > 1e-3
    assert p_value(4.0) < 1e-9
    assert p_value(20.25) < 1e-9


def test_shares_of_several_sites_sum_to_the_noise_that_is_accounted_for() -> None:
    table = SkellamTable(36.0 / 3)
    shares = [table.draw(100_000, entropy=os.urandom) for _ in range(3)]
    total = sum(shares)
    assert np.var(total) == pytest.approx(36.0, rel=0.03)
    assert abs(total.mean()) < 0.1


def test_ties_of_the_first_64_bits_are_decided_by_the_next() -> None:
    table = SkellamTable(2.0)
    middle = len(table._full) // 2
    threshold = table._full[middle]
    high, low = threshold >> 64, threshold & ((1 << 64) - 1)
    for second, expected in ((low - 1, middle), (low, middle + 1), (low + 1, middle + 1)):
        answers = itertools.chain([high.to_bytes(8, "little"), second.to_bytes(8, "little")])
        drawn = table.draw(1, entropy=lambda n, a=answers: next(a))
        assert drawn[0] - table._low == expected


def test_extreme_uniforms_stay_within_the_table() -> None:
    table = SkellamTable(2.0)
    assert table._low <= table.draw(1, entropy=lambda n: b"\x00" * n)[0] < -30
    assert table.draw(1, entropy=lambda n: b"\xff" * n)[0] <= -table._low


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan"), float("inf")])
def test_variance_that_is_none_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance"):
        SkellamTable(variance)


def test_sampling_error_is_far_below_any_delta() -> None:
    table = SkellamTable(1e6)
    extra = sampler_delta(table, num_words=35_700_000, releases=1000, epsilon=10.0)
    assert 0 < extra < 1e-15
