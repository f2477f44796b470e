"""Checks that keep a wrong scale or a broken model from becoming a score that looks plausible."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from phoenix_secure.errors import DataError

__all__ = ["Images", "check_features", "check_images"]

Images: TypeAlias = npt.NDArray[np.floating[Any]] | torch.Tensor

_SLACK = 1e-3  # float32 rounding of a sampler that clips to [-1, 1], well below one byte level


def check_images(images: Images, *, what: str) -> npt.NDArray[np.float32]:
    """Images as an array (N, C, H, H) float32 in [-1, 1], C in {1, 3}, N >= 1.

    Raises:     DataError, naming ``what``, for another type, shape or range, NaN or infinity.
    """
    array = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        kind = getattr(array, "dtype", type(array).__name__)
        raise DataError(f"{what} are {kind}: expected floats in [-1, 1] (scale bytes first)")
    shape = array.shape
    if array.ndim != 4 or 0 in shape or shape[1] not in (1, 3) or shape[2] != shape[3]:
        raise DataError(f"{what} have shape {shape}: expected (N, C, H, H) with C 1 or 3")
    if not np.isfinite(array).all():
        raise DataError(f"{what} hold NaN or infinity: the model that made them has diverged")
    low, high = float(array.min()), float(array.max())
    if low < -1 - _SLACK or high > 1 + _SLACK:
        raise DataError(f"{what} span {low:.4g} to {high:.4g}: scale them to [-1, 1] first")
    return np.ascontiguousarray(np.clip(array, -1, 1), dtype=np.float32)


def check_features(features: npt.NDArray[Any], *, what: str) -> npt.NDArray[np.float64]:
    """Features as an array (N, D) float64, N >= 1.

    Raises:     DataError, naming ``what``, for another type or shape, NaN or infinity.
    """
    if not isinstance(features, np.ndarray) or not np.issubdtype(features.dtype, np.number):
        raise DataError(f"{what} are not an array of numbers: expected features (N, D)")
    if np.iscomplexobj(features) or features.ndim != 2 or 0 in features.shape:
        raise DataError(
            f"{what} have shape {features.shape} {features.dtype}: expected real features (N, D)"
        )
    if not np.isfinite(features).all():
        raise DataError(f"{what} hold NaN or infinity: check the images and the extractor")
    return features.astype(np.float64)
