"""The axes of arrays of images: which one counts images, and which one channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import DataError

__all__ = ["channels_first"]

# As a first axis before a square, also 4: one RGBA image.
_ONE_IMAGE = (3, 4)


def channels_first(
    images: npt.NDArray[Any], *, num_labels: int | None, name: str
) -> npt.NDArray[Any]:
    """(N, H, H), (N, H, H, C) or (N, C, H, H) with C in {1, 3} as (N, C, H, H).

    ``num_labels`` settles how many images there are, where there are labels.

    Raises:     DataError that names both readings of a shape that has two.
    """
    shape = images.shape
    if images.ndim == 3 and 0 not in shape:
        if shape[0] in _ONE_IMAGE and shape[1] == shape[2] and num_labels != shape[0]:
            n, size = shape[0], shape[1]
            raise DataError(
                f"{name}: images of shape {shape} are either {n} grey images (N, H, H) or one "
                f"image of {n} channels (C, H, H): save ({n}, 1, {size}, {size}) or "
                f"(1, {n}, {size}, {size})"
            )
        if shape[2] in (1, *_ONE_IMAGE) and shape[0] == shape[1] != shape[2]:
            raise DataError(
                f"{name}: images of shape {shape} look like one image (H, H, C): "
                f"save (1, {shape[0]}, {shape[1]}, {shape[2]})"
            )
        images = images[:, np.newaxis]
        shape = images.shape
    if images.ndim != 4 or 0 in shape:
        raise DataError(
            f"{name}: images have shape {images.shape}, "
            "expected (N, H, H), (N, H, H, C) or (N, C, H, H)"
        )
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if last and not first:
        images = images.transpose(0, 3, 1, 2)
    elif first == last:
        raise DataError(f"{name}: cannot tell the channel axis of shape {shape}: it must be 1 or 3")
    if images.shape[2] != images.shape[3]:
        raise DataError(f"{name}: images of shape {shape} are not square: crop or pad them first")
    return images
