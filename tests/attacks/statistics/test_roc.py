from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from attacks.statistics.auc import advantage, auc, auc_difference
from attacks.statistics.intervals import clopper_pearson
from attacks.statistics.roc import band, roc, tpr_at_fpr

scored = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(flag for _, flag in rows) < len(rows)
)


@given(rows=scored, target=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]))
def test_every_point_and_the_tpr_at_fpr_follow_from_counting(rows, target: float) -> None:
    scores = np.array([score for score, _ in rows], dtype=float)
    members = np.array([flag for _, flag in rows])
    curve = roc(scores, membership=members)
    for i, threshold in enumerate(curve.thresholds):
        assert curve.true_positives[i] == (scores[members] >= threshold).sum()
        assert curve.false_positives[i] == (scores[~members] >= threshold).sum()
    assert set(curve.thresholds[1:]) == set(scores)
    assert auc(scores, membership=members).value == pytest.approx(roc_auc_score(members, scores))
    fpr, tpr, _ = roc_curve(members, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    found = tpr_at_fpr(curve, target=target)
    n = int((~members).sum())
    if n * target < 1:
        assert found.tpr is None
        assert "not estimable" in found.reason
        assert found.true_fpr_interval is found.tpr_interval is found.threshold is None
    else:
        allowed = [
            (scores[members] >= t).mean()
            for t in [np.inf, *scores]
            if (scores[~members] >= t).mean() <= target + 1e-12
        ]
        assert found.tpr == max(allowed)
        assert found.fpr <= target + 1e-12


def test_a_threshold_above_the_target_is_never_taken_because_it_is_nearest() -> None:
    # FPRs on offer are 0 and 0.012: the nearest to 1 % is above it, with a TPR of 1.
    scores = np.concatenate([np.ones(100), np.ones(12), np.zeros(988)])
    members = np.arange(1100) < 100
    found = tpr_at_fpr(roc(scores, membership=members), target=0.01)
    assert (found.fpr, found.tpr) == (0.0, 0.0)


def test_twenty_images_say_nothing_about_one_per_mille() -> None:
    curve = roc(np.arange(40.0), membership=np.arange(40) >= 20)
    found = tpr_at_fpr(curve, target=0.001)
    assert found.tpr is None
    assert found.reason == "not estimable: an FPR of 0.001 needs 1000 non-members, there are 20"


@pytest.mark.parametrize(("n", "coarse"), [(100, True), (299, True), (300, False)])
def test_a_step_of_one_third_of_the_target_is_flagged_as_coarse(n: int, coarse: bool) -> None:
    curve = roc(np.arange(n + 5.0), membership=np.arange(n + 5) >= n)
    found = tpr_at_fpr(curve, target=0.01)
    assert found.coarse is coarse
    assert found.tpr == 1.0
    # The best threshold admits no false alarm here; the true FPR is still only known to be small.
    assert found.true_fpr_interval.low <= 0.01
    assert found.true_fpr_interval == clopper_pearson(
        round(found.fpr * n), num_trials=n, confidence=0.95
    )


def test_the_band_is_clopper_pearson_at_each_point(rng: np.random.Generator) -> None:
    curve = roc(rng.normal(0, 1, 60), membership=np.arange(60) < 25)
    low, high = band(curve, confidence=0.9)
    for i, k in enumerate(curve.true_positives):
        exact = clopper_pearson(int(k), num_trials=25, confidence=0.9)
        assert (low[i], high[i]) == pytest.approx((exact.low, exact.high))


def test_nan_scores_and_wrong_targets_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="NaN"):
        roc([0.0, np.nan], membership=[True, False])
    curve = roc([0.0, 1.0], membership=[True, False])
    for target in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="target"):
            tpr_at_fpr(curve, target=target)
    with pytest.raises(ValueError, match="confidence"):
        band(curve, confidence=1.0)


def test_delong_is_the_variance_of_the_placements(rng: np.random.Generator) -> None:
    inside, outside = rng.normal(0.7, 1, 40).round(1), rng.normal(0, 1, 60).round(1)
    kernel = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    value = kernel.mean()
    variance = kernel.mean(axis=1).var(ddof=1) / 40 + kernel.mean(axis=0).var(ddof=1) / 60
    scale = 1.959964 * np.sqrt(variance) / (value * (1 - value))
    expected = [1 / (1 + np.exp(-(np.log(value / (1 - value)) + s * scale))) for s in (-1, 1)]
    found = auc(np.concatenate([inside, outside]), membership=np.arange(100) < 40)
    assert found.method == "delong"
    assert found.value == pytest.approx(value)
    assert [found.interval.low, found.interval.high] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("scores", "value"), [(np.arange(40.0), 1.0), (-np.arange(40.0), 0.0)])
def test_a_perfect_separation_still_has_an_interval(scores: np.ndarray, value: float) -> None:
    found = auc(scores, membership=np.arange(40) >= 20)
    assert found.value == value
    assert found.method == "newcombe"
    assert 0.05 < found.interval.high - found.interval.low < 0.25
    few = auc([1.0, 0.0, 2.0], membership=[True, False, True])
    assert few.method == "newcombe"
    assert few.interval.low < 0.6


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("m", "n"), [(8, 8), (20, 40), (100, 100)])
def test_the_interval_covers_the_true_auc(shift: float, m: int, n: int) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(int(10 * shift) + m)
    truth = norm.cdf(shift / np.sqrt(2))
    members = np.arange(m + n) < m
    covered = []
    for _ in range(400):
        found = auc(rng.normal(0, 1, m + n) + shift * members, membership=members)
        covered.append(truth in found.interval)
    assert np.mean(covered) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


@pytest.mark.long
def test_the_paired_difference_covers_the_truth_and_uses_the_pairing() -> None:
    rng = np.random.default_rng(2)
    members = np.arange(200) < 100
    covered, widths = [], []
    for _ in range(300):
        common = rng.normal(0, 1, 200) + 0.5 * members
        first, second = common + rng.normal(0, 0.3, 200), common + rng.normal(0, 0.3, 200)
        value, interval = auc_difference(first, baseline=second, membership=members)
        assert value == pytest.approx(
            auc(first, membership=members).value - auc(second, membership=members).value
        )
        covered.append(0.0 in interval)
        widths.append(interval.high - interval.low)
    assert abs(np.mean(covered) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 300)
    alone = auc(first, membership=members).interval
    assert np.mean(widths) < 0.7 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="baseline"):
        auc_difference(first, baseline=second[:9], membership=members)
    with pytest.raises(ValueError, match="at least 10"):
        auc_difference(first[:12], baseline=second[:12], membership=np.arange(12) < 5)


def test_the_advantage_pays_for_its_maximum() -> None:
    rng = np.random.default_rng(6)
    members = np.arange(200) < 100
    values, covered = [], []
    for _ in range(500):
        found = advantage(roc(rng.normal(0, 1, 200), membership=members))
        values.append(found.value)
        covered.append(0.0 in found.interval)
    # A blind attack's best threshold looks like an advantage of a tenth.
    assert np.mean(values) > 0.08
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 500)


def test_the_advantage_is_the_largest_gap() -> None:
    curve = roc([5.0, 4.0, 3.0, 2.0, 1.0], membership=[True, True, False, True, False])
    found = advantage(curve)
    assert (found.value, found.threshold) == (pytest.approx(2 / 3), 4.0)
