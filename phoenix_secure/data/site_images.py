"""The images of one site, as its trainer takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["SiteImages"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteImages:
    """The training data of one site: images (n, C, H, W) uint8; labels (n,) when conditional.

    n = 0 is a neighbour of n = 1, and under differential privacy must look the same from outside.
    """

    images: np.ndarray
    labels: np.ndarray | None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"expected (n, C, H, W) uint8 images, got {self.images.shape}")
