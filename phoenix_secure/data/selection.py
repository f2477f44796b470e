"""Choosing a smaller, class-balanced set of images, before any of them is decoded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["balanced_indices"]

# A property of the selection, not of a run: runs with different seeds must use the same images.
_SELECTION_SEED = 20230612


def balanced_indices(
    labels: npt.NDArray[np.int64] | None, *, num_images: int, max_images: int | None
) -> npt.NDArray[np.int64]:
    """The indices of at most ``max_images`` images, as even over the classes as can be.

    Shape:      labels (num_images,) or None; sorted int64 out.
    Guarantee:  the same for the same labels, whatever the run's seed; class counts differ by at
                most one except where a class has run out; a smaller selection lies inside a larger
                one; everything when max_images is None or not below num_images.
    """
    if max_images is None or max_images >= num_images:
        return np.arange(num_images)
    order = np.random.default_rng(_SELECTION_SEED).permutation(num_images)
    if labels is None:
        return np.sort(order[:max_images])
    # Rank every image within its class in shuffled order, then take all firsts, all seconds, ...
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.unique(labels, return_counts=True)[1]
    rank_in_class = np.concatenate([np.arange(size) for size in sizes])
    return np.sort(by_class[np.argsort(rank_in_class, kind="stable")][:max_images])
