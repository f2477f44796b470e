from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from attacks import copying, extraction


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.uniform(-1, 1, (n, 1, 2, 2)).astype(np.float32)


def near(rng: np.random.Generator, x: np.ndarray, n: int, scale: float) -> np.ndarray:
    chosen = x[rng.integers(0, len(x), n)]
    return np.clip(chosen + rng.normal(0, scale, chosen.shape), -1, 1).astype(np.float32)


def l2(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a.astype(float) - b.astype(float)) ** 2).sum()))


@pytest.mark.parametrize("ties", [False, True])
def test_the_z_statistic_is_the_tie_corrected_normal_limit(
    rng: np.random.Generator, ties: bool
) -> None:
    a, b = rng.normal(0.3, 1, 40), rng.normal(0, 1, 30)
    if ties:
        a, b = a.round(0), b.round(0)
    z = copying.mann_whitney_z(a, second=b)
    slow = mannwhitneyu(a, b, method="asymptotic", use_continuity=False, alternative="less").pvalue
    assert norm.cdf(z) == pytest.approx(slow, rel=1e-9)
    assert copying.mann_whitney_z(np.ones(4), second=np.ones(5)) == 0


def test_data_copying_is_the_weighted_mean_of_cells(rng: np.random.Generator) -> None:
    train, test, samples = draw(rng, 60), draw(rng, 80), draw(rng, 90)
    found = copying.data_copying(train, test=test, samples=samples, num_cells=1, rng=rng)
    to_train = [[min(l2(a, t) for t in train) for a in part] for part in (samples, test)]
    slow = copying.mann_whitney_z(np.array(to_train[0]), second=np.array(to_train[1]))
    assert found.statistic == pytest.approx(slow)
    several = copying.data_copying(train, test=test, samples=samples, num_cells=3, rng=rng)
    assert several.num_cells_tested >= 2
    assert min(several.z_of_cells) <= several.statistic <= max(several.z_of_cells)


def test_data_copying_tells_copies_from_fresh_samples(rng: np.random.Generator) -> None:
    train, test = draw(rng, 200), draw(rng, 200)
    copies = copying.data_copying(
        train, test=test, samples=near(rng, train, 400, 0.02), num_cells=4, rng=rng
    )
    fresh = copying.data_copying(train, test=test, samples=draw(rng, 400), num_cells=4, rng=rng)
    assert copies.statistic < -5
    assert abs(fresh.statistic) < 3


def test_data_copying_without_a_full_cell_is_not_estimable(rng: np.random.Generator) -> None:
    found = copying.data_copying(
        draw(rng, 50), test=draw(rng, 50), samples=draw(rng, 19), num_cells=1, rng=rng
    )
    assert found.statistic is None
    assert "20 samples" in found.reason


def test_data_copying_refuses_a_test_set_with_training_records(rng: np.random.Generator) -> None:
    train = draw(rng, 50)
    test = np.concatenate([draw(rng, 49), train[:1]])
    with pytest.raises(ValueError, match="share 1"):
        copying.data_copying(train, test=test, samples=draw(rng, 50), num_cells=1, rng=rng)


def slow_authenticity(train: np.ndarray, samples: np.ndarray) -> float:
    authentic = 0
    for g in samples:
        i = min(range(len(train)), key=lambda i: l2(g, train[i]))
        own = min(l2(train[i], train[k]) for k in range(len(train)) if k != i)
        authentic += own < l2(g, train[i])
    return authentic / len(samples)


@pytest.mark.parametrize("num_samples", [30, 70])
def test_authenticity_looks_up_the_training_record_and_not_the_sample(
    rng: np.random.Generator, num_samples: int
) -> None:
    # 70 samples of 40 records: an index into samples would leave the array.
    train = draw(rng, 40)
    samples = near(rng, train, num_samples, 0.15)
    found = copying.authenticity(train, samples=samples)
    assert found == slow_authenticity(train, samples)
    assert 0 < found < 1
    to_train = np.array([[l2(g, t) for t in train] for g in samples])
    within = np.array([[l2(s, t) for t in train] for s in train]) + 1e9 * np.eye(len(train))
    if num_samples < len(train):
        wrong = (within.min(axis=1)[: len(samples)] < to_train.min(axis=1)).mean()
        assert wrong != found


def test_closer_share_counts_wins_and_needs_equal_sizes(rng: np.random.Generator) -> None:
    train, holdout, samples = draw(rng, 30), draw(rng, 30), draw(rng, 100)
    found = copying.closer_share(train, holdout=holdout, samples=samples, rng=rng)
    wins = [min(l2(g, t) for t in train) < min(l2(g, h) for h in holdout) for g in samples]
    assert found.share == np.mean(wins)
    with pytest.raises(ValueError, match="equally large"):
        copying.closer_share(train[:29], holdout=holdout, samples=samples, rng=rng)


def test_closer_share_finds_copies(rng: np.random.Generator) -> None:
    train, holdout = draw(rng, 100), draw(rng, 100)
    samples = near(rng, train, 200, 0.05)
    found = copying.closer_share(train, holdout=holdout, samples=samples, rng=rng)
    assert found.share > 0.85
    assert found.p_permutation == pytest.approx(1e-4)


def test_closer_share_of_samples_equally_near_is_not_estimable(rng: np.random.Generator) -> None:
    train = np.full((1, 1, 2, 2), 0.5, dtype=np.float32)
    samples = np.zeros((5, 1, 2, 2), dtype=np.float32)
    found = copying.closer_share(train, holdout=-train, samples=samples, rng=rng)
    assert found.share is None
    assert found.reason


def test_the_permutation_p_value_is_honest_where_the_binomial_is_not() -> None:
    # Neither set was used. With many samples on few records the binomial still rejects.
    rng = np.random.default_rng(1)
    binomial, permutation = [], []
    for _ in range(200):
        found = copying.closer_share(
            draw(rng, 10),
            holdout=draw(rng, 10),
            samples=draw(rng, 400),
            rng=rng,
            num_permutations=199,
        )
        binomial.append(found.p_binomial < 0.05)
        permutation.append(found.p_permutation < 0.05)
    assert np.mean(binomial) > 0.15
    assert np.mean(permutation) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_extraction_ratio_follows_its_definition(rng: np.random.Generator) -> None:
    train, samples = draw(rng, 40), draw(rng, 25)
    samples[3], samples[4], samples[5] = train[7], train[7], train[9] * 0.999
    found = extraction.extract(train, samples=samples, num_neighbours=10)
    slow = []
    for g in samples:
        distances = sorted(l2(g, t) for t in train)
        slow.append(distances[0] / (0.5 * np.mean(distances[:10])))
    np.testing.assert_allclose(found.ratios, slow, rtol=1e-6, atol=1e-12)
    flagged = [i for i, ratio in enumerate(slow) if ratio < 1]
    assert {3, 4, 5} <= set(flagged)
    assert found.num_flagged == len(flagged)
    assert found.num_distinct == len({int(found.nearest[i]) for i in flagged})


def test_extraction_of_nothing_reports_the_rule_of_three(rng: np.random.Generator) -> None:
    train, samples = draw(rng, 60), draw(rng, 300)
    found = extraction.extract(train, samples=samples, threshold=1e-6)
    assert found.num_flagged == found.num_distinct == 0
    assert found.rate.low == 0
    assert found.rate.high == pytest.approx(1 - 0.05 ** (1 / 300))
    assert found.rate.high == pytest.approx(3 / 300, rel=0.01)


def test_extraction_needs_enough_training_images(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="num_neighbours"):
        extraction.extract(draw(rng, 49), samples=draw(rng, 5))
    with pytest.raises(ValueError, match="alpha"):
        extraction.extract(draw(rng, 60), samples=draw(rng, 5), alpha=0)


def test_samples_that_repeat_one_image_are_claimed_first(rng: np.random.Generator) -> None:
    samples = draw(rng, 100)
    copies = np.repeat(samples[:1], 4, axis=0) + rng.normal(0, 1e-3, (4, *samples.shape[1:]))
    together = np.concatenate([samples, copies.clip(-1, 1)])
    claims = extraction.likely_copies(together, num_claims=5)
    assert set(claims) == {0, 100, 101, 102, 103}
    # By hand: the nearest other sample over the mean of the fifty nearest others.
    flat = together.reshape(len(together), -1)
    distances = np.sort(np.linalg.norm(flat[:, None] - flat[None], axis=2), axis=1)[:, 1:51]
    slow = np.argsort(distances[:, 0] / distances.mean(axis=1))[:12]
    assert set(extraction.likely_copies(together, num_claims=12)) == set(slow)


def test_claims_that_the_samples_do_not_hold_are_refused(rng: np.random.Generator) -> None:
    for options, words in (
        ({"num_claims": 0}, "num_claims"),
        ({"num_claims": 61}, "num_claims"),
        ({"num_claims": 1, "num_neighbours": 60}, "num_neighbours < 60"),
    ):
        with pytest.raises(ValueError, match=words):
            extraction.likely_copies(draw(rng, 60), **options)
