from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from attacks.statistics.intervals import Interval, Side, clopper_pearson
from attacks.statistics.power import (
    detectable_auc,
    detectable_tpr,
    first_that,
    non_members_to_certify,
    null_auc_deviation,
)


@given(data=st.data(), n=st.integers(1, 400), confidence=st.sampled_from([0.8, 0.95, 0.999]))
def test_clopper_pearson_inverts_the_binomial_tails(data, n: int, confidence: float) -> None:
    k = data.draw(st.integers(0, n))
    found = clopper_pearson(k, num_trials=n, confidence=confidence)
    tail = (1 - confidence) / 2
    if k > 0:
        assert binom.sf(k - 1, n, found.low) == pytest.approx(tail, rel=1e-6)
    else:
        assert found.low == 0
    if k < n:
        assert binom.cdf(k, n, found.high) == pytest.approx(tail, rel=1e-6)
    else:
        assert found.high == 1
    other = binomtest(k, n).proportion_ci(confidence, method="exact")
    assert (found.low, found.high) == pytest.approx((other.low, other.high), rel=1e-6, abs=1e-12)


def test_clopper_pearson_covers_every_probability() -> None:
    n = 30
    for side in Side:
        found = [clopper_pearson(k, num_trials=n, confidence=0.9, side=side) for k in range(n + 1)]
        for p in np.linspace(0.001, 0.999, 50):
            covered = sum(binom.pmf(k, n, p) for k in range(n + 1) if p in found[k])
            assert covered >= 0.9 - 1e-12


@pytest.mark.parametrize(
    ("k", "n", "confidence"), [(-1, 3, 0.9), (4, 3, 0.9), (0, 0, 0.9), (1, 3, 1.0), (1, 3, 0.0)]
)
def test_counts_and_confidences_that_are_none_are_refused(
    k: int, n: int, confidence: float
) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        clopper_pearson(k, num_trials=n, confidence=confidence)


def test_an_interval_is_ordered() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Interval(low=1.0, high=0.0, confidence=0.9)
    with pytest.raises(ValueError, match="low <= high"):
        Interval(low=float("nan"), high=0.0, confidence=0.9)
    with pytest.raises(ValueError, match="confidence"):
        Interval(low=0.0, high=1.0, confidence=1.0)


# Two figures that were handed down, 10512 and 29962, are off: exact are 10511
# and 29956, as the exact tails below show.
@pytest.mark.parametrize(
    ("fpr", "false_positives", "n"),
    [
        (0.01, 0, 299),
        (0.01, 1, 473),
        (0.001, 0, 2995),
        (0.001, 1, 4742),
        (0.001, 5, 10511),
        (0.0001, 0, 29956),
    ],
)
def test_non_members_needed_to_certify_a_false_positive_rate(
    fpr: float, false_positives: int, n: int
) -> None:
    assert non_members_to_certify(fpr, false_positives=false_positives) == n
    assert binom.cdf(false_positives, n, fpr) <= 0.05 < binom.cdf(false_positives, n - 1, fpr)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(1000, 0.00003, 0.0056), (10000, 0.00048, 0.00184), (25000, 0.00065, 0.00148)],
)
def test_where_the_true_rate_lies_at_an_empirical_one_per_mille(
    n: int, low: float, high: float
) -> None:
    found = clopper_pearson(n // 1000, num_trials=n, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-6 if n > 1000 else 5e-5)


@pytest.mark.parametrize(
    ("n", "expected"), [(200, 0.581), (500, 0.551), (1000, 0.536), (5000, 0.516), (25000, 0.507)]
)
def test_detectable_auc_matches_the_reference(n: int, expected: float) -> None:
    assert detectable_auc(n, num_non_members=n) == pytest.approx(expected, abs=5e-4)


def test_the_deviation_of_a_blind_auc_is_exact_on_all_orders() -> None:
    from itertools import combinations

    m, n = 3, 4
    aucs = []
    for members in combinations(range(m + n), m):
        others = [rank for rank in range(m + n) if rank not in members]
        aucs.append(np.mean([[a > b for b in others] for a in members]))
    assert null_auc_deviation(m, num_non_members=n) == pytest.approx(np.std(aucs))


def test_the_detectable_tpr_is_found_with_the_power_asked_for() -> None:
    n, fpr = 500, 0.01
    tpr = detectable_tpr(fpr, num_members=n)
    needed = next(k for k in range(n + 1) if binom.sf(k - 1, n, fpr) <= 0.05)
    assert binom.sf(needed - 1, n, tpr) == pytest.approx(0.8, abs=1e-6)
    assert fpr < tpr < 0.05
    assert detectable_tpr(0.9, num_members=1) == 1.0


def test_power_refuses_what_it_cannot_answer() -> None:
    for wrong in (
        lambda: detectable_auc(0, num_non_members=3),
        lambda: detectable_auc(3, num_non_members=3, power=1.0),
        lambda: detectable_tpr(0.0, num_members=3),
        lambda: non_members_to_certify(1.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    with pytest.raises(ValueError, match="not reached"):
        first_that(lambda n: False, start=1, limit=100)
