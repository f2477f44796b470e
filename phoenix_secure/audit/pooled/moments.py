"""Features on a grid of whole numbers, their moments, and the Frechet distance that follows.

The features are ``NUM_FEATURES`` fixed random directions of EfficientNet-Lite0's, rounded to whole
numbers: sums of them and of their products are exact, in whatever order sites add. So the distance
of the pool is the one of all its images in one place, figure for figure. It compares with other
distances of this kind alone.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from phoenix_secure.federation.secagg.pooled_layout import (
    LARGEST_FEATURE,
    NUM_FEATURES,
    FeatureMoments,
)
from phoenix_secure.metrics.checked import Images
from phoenix_secure.metrics.features import FeatureExtractor, efficientnet_lite0
from phoenix_secure.metrics.frechet import frechet_of_moments

__all__ = ["FEATURES_NAME", "frechet", "moments_of", "quantised_features"]

FEATURES_NAME = f"FD-Lite0-{NUM_FEATURES}"
_STEPS = 8.0  # of one unit of a projected feature


@cache
def _extractor() -> FeatureExtractor:
    # On the processor at every site: the grid hides what is left of differences between machines.
    return efficientnet_lite0(device=torch.device("cpu"))


@cache
def _directions(dim: int) -> npt.NDArray[np.float64]:
    drawn = np.random.default_rng(20_261_130).standard_normal((dim, NUM_FEATURES))
    return np.asarray(np.linalg.qr(drawn)[0])


def quantised_features(images: Images) -> npt.NDArray[np.int64]:
    """Whole numbers (N, D), none beyond ``LARGEST_FEATURE``, of images (N, C, H, H) in [-1, 1]."""
    extractor = _extractor()
    projected = extractor(images).astype(np.float64) @ _directions(extractor.dim)
    return np.clip(np.rint(projected * _STEPS), -LARGEST_FEATURE, LARGEST_FEATURE).astype(np.int64)


def moments_of(features: npt.NDArray[np.int64]) -> FeatureMoments:
    """Count, sum and sum of products of the rows (N, D)."""
    return FeatureMoments(
        count=len(features), total=features.sum(axis=0), products=features.T @ features
    )


def frechet(first: FeatureMoments, second: FeatureMoments) -> float:
    """The Frechet distance, in units of a feature squared.

    Raises:     ValueError for fewer than two vectors on a side.
    """
    (mean_x, cov_x), (mean_y, cov_y) = (_gaussian(each) for each in (first, second))
    return frechet_of_moments(mean_x, cov_x, mean_y, cov_y)


def _gaussian(moments: FeatureMoments) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and unbiased covariance, from whole numbers as long as they stay exact."""
    n = moments.count
    if n < 2:
        raise ValueError(f"expected at least 2 vectors, got {n}")
    # n sum x x^T - (sum x)(sum x)^T is exact below 2^63: n^2 * 127^2 with n up to 10^7.
    whole = n * moments.products - np.outer(moments.total, moments.total)
    return moments.total / (n * _STEPS), whole / (n * (n - 1) * _STEPS**2)
