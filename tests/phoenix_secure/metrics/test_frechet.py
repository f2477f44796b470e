"""Frechet distance against the textbook formula, torchmetrics, and distances known by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid

from phoenix_secure.metrics.frechet import frechet_distance

Vectors = npt.NDArray[np.float64]


def slow_frechet(x: Vectors, y: Vectors) -> float:
    """The published formula with a matrix root."""
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(sqrtm(np.atleast_2d(s_x) @ np.atleast_2d(s_y)))
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + np.trace(np.atleast_2d(s_x) + np.atleast_2d(s_y)) - 2 * np.trace(root))


def draw(seed: int, *, num: int, dim: int) -> Vectors:
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(), 1, (num, dim)) @ rng.normal(size=(dim, dim))


def test_one_dimension_matches_means_and_deviations_by_hand() -> None:
    x = np.array([[0.0], [2.0]])  # mean 1, variance 2
    y = np.array([[0.0], [6.0]])  # mean 3, variance 18
    assert frechet_distance(x, y) == pytest.approx(2**2 + (18**0.5 - 2**0.5) ** 2)


@given(seed=st.integers(0, 10_000), num=st.integers(8, 30), dim=st.integers(2, 6))
def test_equals_the_matrix_root(seed: int, num: int, dim: int) -> None:
    x, y = draw(seed, num=num, dim=dim), draw(seed + 1, num=num + 3, dim=dim)
    assert frechet_distance(x, y) == pytest.approx(slow_frechet(x, y), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("num", [50, 12])  # 12 vectors in 20 dimensions: singular covariances
def test_equals_torchmetrics_with_many_and_with_too_few_vectors(num: int) -> None:
    x, y = draw(1, num=num, dim=20), draw(2, num=num, dim=20)
    theirs = _compute_fid(
        *(
            torch.from_numpy(part)
            for z in (x, y)
            for part in (z.mean(axis=0), np.cov(z, rowvar=False))
        )
    )
    assert frechet_distance(x, y) == pytest.approx(float(theirs), rel=1e-5)


@given(seed=st.integers(0, 10_000), num=st.integers(2, 12))
def test_zero_to_itself_symmetric_and_blind_to_order_rotation_and_shift(
    seed: int, num: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = draw(seed, num=num, dim=5), draw(seed + 1, num=num, dim=5)
    distance = frechet_distance(x, y)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    shift = rng.normal(size=5)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert distance >= 0
    assert frechet_distance(y, x) == pytest.approx(distance)
    assert frechet_distance(rng.permutation(x), y) == pytest.approx(distance)
    assert frechet_distance(x @ turn + shift, y @ turn + shift) == pytest.approx(distance)


def test_a_collapsed_set_has_a_finite_distance() -> None:
    x, y = np.ones((9, 4)), draw(2, num=9, dim=4)
    gap = 1 - y.mean(axis=0)
    assert frechet_distance(x, y) == pytest.approx(gap @ gap + np.trace(np.cov(y, rowvar=False)))


def test_bias_shrinks_as_the_number_of_vectors_grows() -> None:
    distances = []
    for num in (30, 100, 1000):
        rng = np.random.default_rng(3)
        distances.append(frechet_distance(rng.normal(size=(num, 10)), rng.normal(size=(num, 10))))
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 0


def test_one_vector_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(np.ones((1, 3)), np.ones((5, 3)))
