from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.selection import balanced_indices

labels_st = st.lists(st.integers(0, 5), min_size=1, max_size=100).map(
    lambda values: np.array(values, dtype=np.int64)
)


@given(labels_st, st.integers(1, 120))
def test_selection_is_sorted_repeatable_and_as_even_as_the_classes_allow(
    labels: np.ndarray, max_images: int
) -> None:
    chosen = balanced_indices(labels, num_images=len(labels), max_images=max_images)
    again = balanced_indices(labels, num_images=len(labels), max_images=max_images)
    assert np.array_equal(chosen, again)
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == min(max_images, len(labels))
    have, all_of = np.bincount(labels[chosen], minlength=6), np.bincount(labels, minlength=6)
    not_used_up = have[have < all_of]
    if not_used_up.size:
        assert have.max() - not_used_up.min() <= 1


@given(labels_st, st.integers(1, 50), st.integers(0, 50))
def test_a_smaller_selection_lies_inside_a_larger_one(
    labels: np.ndarray, smaller: int, more: int
) -> None:
    inner = balanced_indices(labels, num_images=len(labels), max_images=smaller)
    outer = balanced_indices(labels, num_images=len(labels), max_images=smaller + more)
    assert set(inner.tolist()) <= set(outer.tolist())


def test_selection_without_labels_is_not_just_the_first_images() -> None:
    chosen = balanced_indices(None, num_images=1000, max_images=100)
    assert len(chosen) == 100
    assert 350 < chosen.mean() < 650
    assert balanced_indices(None, num_images=5, max_images=None).tolist() == [0, 1, 2, 3, 4]
