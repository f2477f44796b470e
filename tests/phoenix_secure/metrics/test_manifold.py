"""Precision, recall, density, coverage against brute force, ``prdc`` and hand-made points."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prdc import compute_prdc

from phoenix_secure.metrics import manifold
from phoenix_secure.metrics.manifold import manifold_scores

Vectors = npt.NDArray[np.float64]


def slow_scores(generated: Vectors, reference: Vectors, *, nearest_k: int) -> dict[str, float]:
    """The definitions, one pair at a time."""

    def distance(a: Vectors, b: Vectors) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(points: Vectors, i: int) -> float:
        others = [distance(points[i], points[j]) for j in range(len(points)) if j != i]
        return sorted(others)[nearest_k - 1]

    r_ref = [radius(reference, i) for i in range(len(reference))]
    r_gen = [radius(generated, j) for j in range(len(generated))]
    around = [[distance(r, g) < r_ref[i] for i, r in enumerate(reference)] for g in generated]
    recalled = [any(distance(r, g) < r_gen[j] for j, g in enumerate(generated)) for r in reference]
    covered = [any(column) for column in zip(*around, strict=True)]
    return {
        "precision": float(np.mean([any(row) for row in around])),
        "recall": float(np.mean(recalled)),
        "density": float(np.mean([sum(row) for row in around]) / nearest_k),
        "coverage": float(np.mean(covered)),
    }


@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    nearest_k=st.integers(1, 4),
    shift=st.sampled_from([0.0, 0.7, 3.0]),
)
def test_equal_brute_force(seed: int, sizes: tuple[int, int], nearest_k: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    generated, reference = rng.normal(shift, 1, (sizes[0], 2)), rng.normal(size=(sizes[1], 2))
    found = asdict(manifold_scores(generated, reference, nearest_k=nearest_k))
    assert found == pytest.approx(slow_scores(generated, reference, nearest_k=nearest_k))


@pytest.mark.parametrize("block", [7, 1024])
def test_equal_prdc_whatever_the_block_size(
    block: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifold, "_BLOCK", block)
    rng = np.random.default_rng(4)
    generated, reference = rng.normal(0.5, 1, (90, 8)), rng.normal(size=(120, 8))
    found = asdict(manifold_scores(generated, reference, nearest_k=5))
    assert capsys.readouterr().out == ""  # prdc prints; we do not
    assert found == pytest.approx(compute_prdc(reference, generated, nearest_k=5))


def test_four_points_on_a_line_by_hand() -> None:
    reference = np.array([[0.0], [1.0], [3.0]])  # radii for k = 1: 1, 1, 2
    generated = np.array([[0.5], [10.0]])  # radii 9.5, 9.5
    found = manifold_scores(generated, reference, nearest_k=1)
    # 0.5 lies in the balls of 0 and 1, not in that of 3 (distance 2.5); 10 lies in none.
    # 0, 1, 3 lie within 9.5 of 0.5.
    assert (found.precision, found.recall) == (0.5, 1.0)
    assert (found.density, found.coverage) == (1.0, pytest.approx(2 / 3))


def test_same_set_scores_one_and_distant_set_zero() -> None:
    points = np.random.default_rng(1).normal(size=(200, 5))
    same = manifold_scores(points, points, nearest_k=5)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(1, abs=0.01)
    far = manifold_scores(points + 100, points, nearest_k=5)
    assert asdict(far) == dict.fromkeys(("precision", "recall", "density", "coverage"), 0)


def test_a_collapsed_generator_is_precise_but_recalls_and_covers_nearly_nothing() -> None:
    points = np.random.default_rng(1).normal(size=(200, 5))
    copies = np.tile(points.mean(axis=0), (200, 1))
    found = manifold_scores(copies, points, nearest_k=5)
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage < 0.5


@pytest.mark.parametrize(("nearest_k", "num"), [(0, 9), (5, 5)])
def test_too_few_vectors_for_k_are_refused(nearest_k: int, num: int) -> None:
    points = np.random.default_rng(1).normal(size=(num, 2))
    with pytest.raises(ValueError, match="nearest_k"):
        manifold_scores(points, points, nearest_k=nearest_k)
