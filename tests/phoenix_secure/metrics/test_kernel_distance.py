"""KID against a double loop over the published formula."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.metrics.kernel_distance import kernel_distance

Vectors = npt.NDArray[np.float64]


def slow_squared_mmd(x: Vectors, y: Vectors) -> float:
    """Binkowski et al. (2018), eq. 4, one pair at a time."""

    def k(a: Vectors, b: Vectors) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    between = sum(k(a, b) for a in x for b in y) / (m * n)
    return float(within_x + within_y - 2 * between)


def draw(seed: int, *, num: int, dim: int, shift: float = 0.0) -> Vectors:
    return np.random.default_rng(seed).normal(shift, 1, (num, dim))


def test_two_vectors_of_one_dimension_match_the_sum_made_by_hand() -> None:
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    # k(0,1) = 1, k(1,2) = 27; between: k(0,1) = 1, k(0,2) = 1, k(1,1) = 8, k(1,2) = 27
    expected = 1 + 27 - 2 * (1 + 1 + 8 + 27) / 4
    kid, spread = kernel_distance(x, y, subset_size=2, num_subsets=3, rng=np.random.default_rng(0))
    assert kid == pytest.approx(expected)
    assert spread == pytest.approx(0)


@given(seed=st.integers(0, 10_000), num=st.integers(2, 7), dim=st.integers(1, 4))
def test_one_subset_of_all_vectors_equals_the_double_loop(seed: int, num: int, dim: int) -> None:
    x, y = draw(seed, num=num, dim=dim), draw(seed + 1, num=num, dim=dim, shift=0.5)
    kid, _ = kernel_distance(x, y, subset_size=num, num_subsets=2, rng=np.random.default_rng(0))
    assert kid == pytest.approx(slow_squared_mmd(x, y), rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 10_000))
def test_symmetric_and_blind_to_order_and_to_swapped_dimensions(seed: int) -> None:
    x, y = draw(seed, num=6, dim=3), draw(seed + 1, num=6, dim=3)
    order = np.random.default_rng(seed).permutation(6)

    def kid(a: Vectors, b: Vectors) -> float:
        return kernel_distance(a, b, subset_size=6, num_subsets=2, rng=np.random.default_rng(0))[0]

    assert kid(x, y) == pytest.approx(kid(y, x), abs=1e-9)
    assert kid(x, y) == pytest.approx(kid(x[order], y), abs=1e-9)
    assert kid(x, y) == pytest.approx(kid(x[:, ::-1].copy(), y[:, ::-1].copy()), abs=1e-9)


def test_unbiased_where_the_distributions_are_equal_and_positive_where_they_are_not() -> None:
    rng = np.random.default_rng(5)
    values = []
    for _ in range(300):
        x, y = rng.normal(size=(10, 4)), rng.normal(size=(10, 4))
        values.append(kernel_distance(x, y, subset_size=10, num_subsets=2, rng=rng)[0])
    standard_error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * standard_error
    assert min(values) < 0  # a biased estimate never is
    kid, spread = kernel_distance(
        draw(1, num=200, dim=4),
        draw(2, num=200, dim=4, shift=1),
        subset_size=100,
        num_subsets=20,
        rng=rng,
    )
    assert kid > 5 * spread


@pytest.mark.long
@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.8, 2.5), (0.7, 0.7, 1.5)])
def test_spread_over_half_sized_subsets_is_the_standard_error(
    shift: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(11)
    kids, spreads = [], []
    for _ in range(120):
        x, y = rng.normal(size=(60, 3)), rng.normal(shift, 1, (60, 3))
        kid, spread = kernel_distance(x, y, subset_size=30, num_subsets=40, rng=rng)
        kids.append(kid)
        spreads.append(spread)
    ratio = np.sqrt(np.mean(np.square(spreads))) / np.std(kids)
    assert low < ratio < high


def test_mean_and_deviation_are_those_of_the_subsets() -> None:
    x, y = draw(1, num=8, dim=2), draw(2, num=8, dim=2)
    rng = np.random.default_rng(9)
    values = []
    for _ in range(3):
        part_x, part_y = (z[rng.choice(8, 4, replace=False)] for z in (x, y))
        values.append(slow_squared_mmd(part_x, part_y))
    kid, spread = kernel_distance(x, y, subset_size=4, num_subsets=3, rng=np.random.default_rng(9))
    mean = sum(values) / 3
    assert kid == pytest.approx(mean)
    assert spread == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)


def test_subsets_are_drawn_from_the_generator_alone() -> None:
    x, y = draw(1, num=40, dim=3), draw(2, num=40, dim=3)
    first, again, other = (
        kernel_distance(x, y, subset_size=10, num_subsets=5, rng=np.random.default_rng(seed))
        for seed in (7, 7, 8)
    )
    assert first == again != other


@pytest.mark.parametrize(("size", "count"), [(1, 5), (5, 1), (11, 5)])
def test_impossible_subsets_are_refused(size: int, count: int) -> None:
    x = draw(1, num=10, dim=3)
    with pytest.raises(ValueError, match="expected"):
        kernel_distance(x, x, subset_size=size, num_subsets=count, rng=np.random.default_rng(0))
