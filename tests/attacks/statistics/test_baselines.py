"""Placebo, blind baseline, strata."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from attacks.statistics.auc import auc, auc_difference
from attacks.statistics.blind import blind_baseline, image_statistics
from attacks.statistics.placebo import check_placebo, null_band, placebo_split
from attacks.statistics.strata import by_group, worst_records


@pytest.mark.slow
def test_the_null_band_holds_a_blind_attack_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(90) < 40
    band = null_band(40, num_non_members=50)
    inside = [auc(rng.normal(0, 1, 90), membership=members).value in band for _ in range(2000)]
    assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 2000) + 0.005


def test_the_band_for_two_hundred_a_side_is_that_of_the_reference() -> None:
    band = null_band(600, num_non_members=600)
    assert (band.low, band.high) == pytest.approx((0.4673, 0.5327), abs=1e-3)


def test_a_placebo_of_an_honest_attack_is_inside_and_of_a_fitted_one_is_not() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(0, 1, (200, 40))
    pseudo = placebo_split(200, rng=rng)
    assert pseudo.sum() == 100
    honest = check_placebo(features[:, 0], membership=pseudo)
    assert honest.inside
    # An attack that fits a classifier on the records it then scores.
    fitted = LogisticRegression(C=100, max_iter=1000).fit(features, pseudo)
    cheating = check_placebo(fitted.decision_function(features), membership=pseudo)
    assert not cheating.inside
    assert cheating.auc > 0.7


def test_one_record_cannot_be_split(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        placebo_split(1, rng=rng)


def images_of(rng: np.random.Generator, n: int, contrast: float = 1.0) -> np.ndarray:
    return (contrast * rng.uniform(-1, 1, (n, 1, 8, 8))).astype(np.float32)


@pytest.mark.slow
def test_the_blind_baseline_is_at_chance_on_alike_sets() -> None:
    rng = np.random.default_rng(2)
    members = np.arange(120) < 60
    found = [blind_baseline(images_of(rng, 120), membership=members, rng=rng) for _ in range(8)]
    assert abs(np.mean([baseline.auc.value for baseline in found]) - 0.5) < 0.06
    assert sum(baseline.differs for baseline in found) <= 1


@pytest.mark.slow
def test_the_blind_baseline_rarely_calls_alike_sets_different() -> None:
    rng = np.random.default_rng(5)
    members = np.arange(200) < 100
    alarms = [
        blind_baseline(images_of(rng, 200), membership=members, rng=rng).differs for _ in range(200)
    ]
    assert np.mean(alarms) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 200)


def test_the_blind_baseline_catches_a_contrast_shift(rng: np.random.Generator) -> None:
    x = np.concatenate([images_of(rng, 100), images_of(rng, 100, contrast=0.9)])
    members = np.arange(200) < 100
    found = blind_baseline(x, membership=members, rng=rng)
    assert found.auc.value > 0.99
    assert found.differs is True
    # An "attack" that only sees contrast has no excess over blind.
    contrast = x.max(axis=(1, 2, 3)).astype(float)
    assert auc(contrast, membership=members).value > 0.95
    _, excess = auc_difference(contrast, baseline=found.scores, membership=members)
    assert excess.low < 0.02


def test_the_blind_baseline_sees_metadata(rng: np.random.Generator) -> None:
    x, members = images_of(rng, 200), np.arange(200) < 100
    year = np.where(members, 2019, 2023)[:, None]
    found = blind_baseline(x, membership=members, rng=rng, metadata=year)
    assert found.auc.value > 0.95
    with pytest.raises(ValueError, match="metadata"):
        blind_baseline(x, membership=members, rng=rng, metadata=year[:5])


def test_the_blind_baseline_of_few_records_is_not_estimable(rng: np.random.Generator) -> None:
    found = blind_baseline(images_of(rng, 38), membership=np.arange(38) < 19, rng=rng)
    assert found.auc is found.scores is found.differs is None
    assert found.reason.startswith("not estimable")


def test_statistics_of_a_single_pixel_are_finite() -> None:
    assert np.isfinite(image_statistics(np.zeros((3, 2, 1, 1), dtype=np.float32))).all()
    assert image_statistics(np.zeros((3, 2, 4, 4), dtype=np.float32)).shape == (3, 16)


def test_strata_find_the_exposed_group_and_leave_small_ones_out(rng: np.random.Generator) -> None:
    groups = np.repeat(["a", "b", "c"], [200, 200, 15])
    members = np.arange(415) % 2 == 0
    scores = rng.normal(0, 1, 415) + 2 * (members & (groups == "b"))
    a, b, c = by_group(scores, membership=members, groups=groups)
    assert (a.group, b.group, c.group) == ("a", "b", "c")
    assert 0.5 in a.auc.interval
    assert b.auc.interval.low > 0.85
    assert c.auc is None
    assert c.reason.startswith("not estimable")
    alone = auc(scores[:200], membership=members[:200]).interval
    assert a.auc.interval.high - a.auc.interval.low > alone.high - alone.low
    with pytest.raises(ValueError, match="groups"):
        by_group(scores, membership=members, groups=groups[:3])


def test_strata_of_a_blind_attack_rarely_raise_any_alarm() -> None:
    rng = np.random.default_rng(3)
    groups, members = np.repeat(np.arange(10), 40), np.arange(400) % 2 == 0
    alarms = [
        any(
            0.5 not in stratum.auc.interval
            for stratum in by_group(rng.normal(0, 1, 400), membership=members, groups=groups)
        )
        for _ in range(80)
    ]
    assert np.mean(alarms) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)


def test_the_worst_records_are_members_with_an_adjusted_p_value(rng: np.random.Generator) -> None:
    members = np.arange(1099) < 100
    scores = rng.normal(0, 1, 1099)
    scores[[7, 42]] = [50.0, 40.0]
    first, second, third = worst_records(scores, membership=members, k=3)
    assert (first.index, second.index) == (7, 42)
    assert first.p_value == second.p_value == 1 / 1000
    assert first.adjusted == 0.1
    as_high = (scores[~members] >= third.score).sum()
    assert third.p_value == (1 + as_high) / 1000
    with pytest.raises(ValueError, match="k <= 100"):
        worst_records(scores, membership=members, k=101)
