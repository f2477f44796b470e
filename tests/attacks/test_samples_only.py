"""nearest, monte_carlo, domias against slow definitions, and the failings of published code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from attacks import domias, monte_carlo, nearest
from attacks.monte_carlo import Statistic
from attacks.statistics.auc import auc


@pytest.fixture
def sets(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    def draw(n: int) -> np.ndarray:
        return rng.uniform(-1, 1, (n, 1, 3, 3)).astype(np.float32)

    return draw(11), draw(60), draw(50)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(sum((float(u) - float(v)) ** 2 for u, v in zip(a.flat, b.flat, strict=True)))


def test_nearest_is_minus_the_mean_of_the_k_smallest_distances(sets) -> None:
    x, samples, reference = sets
    for k in (1, 3):
        slow = [-np.mean(sorted(distance(a, g) for g in samples)[:k]) for a in x]
        np.testing.assert_allclose(
            nearest.score(x, samples=samples, num_neighbours=k), slow, rtol=1e-6
        )
        calibrated = [
            np.mean(sorted(distance(a, r) for r in reference)[:k]) + s
            for a, s in zip(x, slow, strict=True)
        ]
        np.testing.assert_allclose(
            nearest.score(x, samples=samples, reference=reference, num_neighbours=k),
            calibrated,
            rtol=1e-5,
        )


def test_nearest_measures_in_the_embedding_when_given_one(sets) -> None:
    x, samples, _ = sets
    found = nearest.score(x, samples=samples, embed=lambda images: images.mean(axis=(1, 2)))
    slow = [-min(distance(a.mean((0, 1)), g.mean((0, 1))) for g in samples) for a in x]
    np.testing.assert_allclose(found, slow, rtol=1e-5)


def test_nearest_ranks_large_images_where_exp_of_minus_squared_distance_is_all_ties(
    rng: np.random.Generator,
) -> None:
    members = rng.uniform(-1, 1, (10, 3, 64, 64)).astype(np.float32)
    others = rng.uniform(-1, 1, (10, 3, 64, 64)).astype(np.float32)
    samples = np.clip(members + rng.normal(0, 0.3, members.shape), -1, 1).astype(np.float32)
    scores = nearest.score(np.concatenate([members, others]), samples=samples)
    assert len(np.unique(np.exp(-(scores**2)))) == 1
    membership = np.arange(20) < 10
    assert auc(scores, membership=membership).value == 1.0


def test_a_reference_that_holds_candidates_is_refused(sets) -> None:
    x, samples, reference = sets
    reference[7] = x[2]
    with pytest.raises(ValueError, match="share 1 record"):
        nearest.score(x, samples=samples, reference=reference)
    with pytest.raises(ValueError, match="share 1 record"):
        domias.score(x, samples=samples, reference=reference, num_components=2)


@pytest.mark.parametrize("statistic", list(Statistic))
def test_monte_carlo_follows_its_definition(sets, statistic: Statistic) -> None:
    x, samples, _ = sets
    radius = monte_carlo.median_radius(x, samples=samples)
    slow_radius = np.median([min(distance(a, g) for g in samples) for a in x])
    assert radius == pytest.approx(slow_radius)
    slow = []
    for a in x:
        scaled = [distance(a, g) / radius for g in samples]
        ball = [d for d in scaled if d < 1]
        if statistic is Statistic.COUNT:
            slow.append((len(ball) + 1 / (1 + min(scaled))) / len(samples))
        elif ball:
            slow.append(-sum(math.log(d) for d in ball) / len(samples))
        else:
            slow.append(-math.log(min(scaled)) / len(samples))
    found = monte_carlo.score(x, samples=samples, radius=radius, statistic=statistic)
    np.testing.assert_allclose(found, slow, rtol=1e-5, atol=1e-7)


def test_monte_carlo_orders_records_without_any_sample_near(sets) -> None:
    x, samples, _ = sets
    for statistic in Statistic:
        found = monte_carlo.score(x, samples=samples, radius=0.01, statistic=statistic)
        assert len(np.unique(found)) == len(x)
        np.testing.assert_array_equal(
            np.argsort(found), np.argsort(nearest.score(x, samples=samples))
        )


def test_monte_carlo_counts_are_never_reordered_by_the_tie_break(sets) -> None:
    x, samples, _ = sets
    radius = 1.8
    counts = [sum(distance(a, g) < radius for g in samples) for a in x]
    found = monte_carlo.score(x, samples=samples, radius=radius, statistic=Statistic.COUNT)
    assert len(set(counts)) > 3
    np.testing.assert_array_equal(np.floor(found * len(samples) - 1e-9), counts)


def test_monte_carlo_survives_an_exact_copy_and_refuses_a_radius_of_nothing(sets) -> None:
    x, samples, _ = sets
    samples[0] = x[0]
    found = monte_carlo.score(x, samples=samples, radius=1.0)
    assert np.isfinite(found).all()
    assert found.argmax() == 0
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="radius"):
            monte_carlo.score(x, samples=samples, radius=radius)
    with pytest.raises(ValueError, match="exact copies"):
        monte_carlo.median_radius(x[:1], samples=samples)


def test_a_set_scores_the_mean_of_its_records() -> None:
    found = monte_carlo.set_score([1.0, 2.0, 6.0], owners=["a", "b", "b"])
    assert found == {"a": 1.0, "b": 4.0}


def test_domias_is_a_ratio_of_kernel_densities(sets) -> None:
    x, samples, reference = sets
    components = 2
    found = domias.score(x, samples=samples, reference=reference, num_components=components)
    both = np.concatenate([samples, reference]).reshape(110, -1).astype(float)
    _, _, axes = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)
    axes = axes[:components]

    def density(points: np.ndarray, at: np.ndarray) -> float:
        n = len(points)
        covariance = np.cov(points.T) * n ** (-2 / (components + 4))
        return float(np.mean([multivariate_normal.pdf(at, p, covariance) for p in points]))

    g = (samples.reshape(60, -1) - both.mean(axis=0)) @ axes.T
    r = (reference.reshape(50, -1) - both.mean(axis=0)) @ axes.T
    q = (x.reshape(11, -1) - both.mean(axis=0)) @ axes.T
    slow = [math.log(density(g, a) / density(r, a)) for a in q]
    np.testing.assert_allclose(found, slow, rtol=1e-4)


def test_domias_still_ranks_where_both_densities_underflow(rng: np.random.Generator) -> None:
    samples = rng.normal(0, 0.005, (80, 1, 2, 2)).astype(np.float32)
    reference = rng.normal(0, 0.005, (80, 1, 2, 2)).astype(np.float32)
    x = np.stack([np.full((1, 2, 2), v, dtype=np.float32) for v in (0.7, 0.8, 0.9)])
    found = domias.score(x, samples=samples, reference=reference, num_components=2)
    assert np.isfinite(found).all()
    assert len(np.unique(found)) == 3


def test_domias_refuses_too_few_or_flat_points(sets) -> None:
    x, samples, reference = sets
    with pytest.raises(ValueError, match="too few"):
        domias.score(x, samples=samples[:9], reference=reference, num_components=2)
    flat = np.zeros_like(samples)
    with pytest.raises(ValueError, match="flat subspace"):
        domias.score(x, samples=flat, reference=reference, num_components=2)


@pytest.mark.parametrize("attack", ["nearest", "domias", "monte_carlo"])
def test_samples_of_another_size_or_range_are_refused(sets, attack: str) -> None:
    x, samples, reference = sets

    def run(samples: np.ndarray) -> np.ndarray:
        if attack == "nearest":
            return nearest.score(x, samples=samples)
        if attack == "monte_carlo":
            return monte_carlo.score(x, samples=samples, radius=1.0)
        return domias.score(x, samples=samples, reference=reference, num_components=2)

    with pytest.raises(ValueError, match=r"samples: .*resize"):
        run(np.zeros((60, 1, 4, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"samples: .*\[-1, 1\]"):
        run((samples + 1) * 127.5)
