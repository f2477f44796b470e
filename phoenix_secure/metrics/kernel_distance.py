"""Kernel distance between two sets of features, with its spread over subsets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.image.kid import poly_mmd

__all__ = ["kernel_distance"]


def kernel_distance(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    *,
    subset_size: int,
    num_subsets: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """KID: mean and standard deviation of the unbiased squared MMD over random subsets.

    The kernel is k(a, b) = (a.b / D + 1)^3. Each subset takes ``subset_size`` vectors of ``x`` and
    as many of ``y``, without replacement.

    Shape:      x (N, D), y (M, D).
    Guarantee:  the expectation is the same for every subset size (no bias for small sets), so a
                small negative value is an ordinary outcome for two equal distributions. Subsets of
                half of N = M make the deviation an estimate of the standard error of the mean
                that N images give (delete-half jackknife; up to sqrt(3) too large, never much too
                small, where the two distributions are equal). Smaller subsets make it larger.
    Raises:     ValueError for subset_size < 2, num_subsets < 2, or fewer than subset_size vectors.
    Source:     Binkowski et al. (2018), section 3 and eq. 4, arXiv:1801.01401; Gretton et al.
                (2012), JMLR 13, eq. 3; Shao, Wu (1989), Annals of Statistics 17.
    """
    if subset_size < 2 or num_subsets < 2:
        raise ValueError(
            f"expected subset_size >= 2 and num_subsets >= 2, got {subset_size} and {num_subsets}"
        )
    if min(len(x), len(y)) < subset_size:
        raise ValueError(f"expected at least {subset_size} vectors, got {len(x)} and {len(y)}")
    # float64: the cube of a dot product leaves too few digits of float32 for a difference near 0.
    values = np.empty(num_subsets)
    for i in range(num_subsets):
        part_x = torch.from_numpy(x[rng.choice(len(x), subset_size, replace=False)])
        part_y = torch.from_numpy(y[rng.choice(len(y), subset_size, replace=False)])
        values[i] = float(poly_mmd(part_x, part_y, degree=3, coef=1.0))
    return float(values.mean()), float(values.std(ddof=1))
