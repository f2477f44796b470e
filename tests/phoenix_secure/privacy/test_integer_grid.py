"""Rows of whole numbers are never longer than the grid says, whatever they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phoenix_secure.privacy.integer_grid import IntegerGrid

any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)


def exact_square(row: np.ndarray) -> int:
    return sum(int(each) ** 2 for each in row)


@given(arrays(np.float64, (3, 7), elements=any_float), st.integers(2, (1 << 24) - 1))
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_no_row_is_longer_than_the_grid_says(vectors: np.ndarray, steps: int) -> None:
    words = IntegerGrid(steps=steps, limit=1).round(vectors)

    assert all(exact_square(row) <= steps**2 for row in words)


@given(arrays(np.float64, (4, 30), elements=st.floats(-1, 1)), st.integers(10, 1 << 22))
def test_a_vector_within_its_norm_is_kept_to_half_a_step(vectors: np.ndarray, steps: int) -> None:
    vectors = vectors / max(1.0, float(np.linalg.norm(vectors, axis=1).max()) * (1 + 1e-12))
    grid = IntegerGrid(steps=steps, limit=1)
    words = grid.round(vectors)

    assert np.abs(words - vectors * grid.feature_scale(30)).max() <= 0.5 + 1e-6


def test_squares_that_would_overflow_are_no_way_around_the_bound() -> None:
    """2^17 words of 2^23 have a squared norm of 2^63: a negative number to int64."""
    grid = IntegerGrid(steps=(1 << 24) - 1, limit=1)
    vectors = np.full((2, 1 << 17), 0.5)
    vectors[1] = 2.0**-9

    words = grid.round(vectors)
    assert not words[0].any()
    assert words[1].any()


def test_sums_are_cut_off_coordinate_by_coordinate() -> None:
    grid = IntegerGrid(steps=5, limit=12)

    assert grid.cut_off(np.array([-40, -12, 3, 12, 13])).tolist() == [-12, -12, 3, 12, 12]
    assert grid.squared_sensitivity == 25


@pytest.mark.parametrize("fields", [{"steps": 0}, {"limit": 0}, {"steps": 1 << 24}])
def test_grids_that_mean_nothing_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 0 < steps"):
        IntegerGrid(**{"steps": 4, "limit": 4, **fields})


@given(
    seed=st.integers(0, 2**31),
    places=st.integers(1, 6),
    size=st.integers(1, 40),
    scale=st.floats(0, 1e12),
    count_step=st.integers(0, 500),
    broken=st.sampled_from([None, float("nan"), float("inf")]),
)
def test_parts_of_one_record_count_as_one_together(
    seed: int, places: int, size: int, scale: float, count_step: int, broken: float | None
) -> None:
    grid = IntegerGrid(steps=40, count_step=count_step, limit=1 << 30)
    rng = np.random.default_rng(seed)
    vectors, counts = rng.normal(size=(places, size)) * scale, rng.integers(1, 1000, size=places)
    if broken is not None:
        vectors[0, 0] = broken
    words, counted = grid.round_together(vectors, counts)
    assert int(np.square(words).sum()) <= grid.steps**2
    assert int(np.square(counted).sum()) <= grid.count_step**2


@given(seed=st.integers(0, 2**31), size=st.integers(1, 40), norm=st.floats(0, 1))
def test_a_single_part_is_rounded_as_a_record(seed: int, size: int, norm: float) -> None:
    grid = IntegerGrid(steps=1000, count_step=200, limit=1 << 30)
    vector = np.random.default_rng(seed).normal(size=(1, size))
    vector *= norm * (1 - 1e-6) / np.linalg.norm(vector)
    words, counted = grid.round_together(vector, np.array([1]))
    assert np.array_equal(words, grid.round(vector))
    assert counted.tolist() == [200]
