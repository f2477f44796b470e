"""The images of one site, as its trainer takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.images import ImageSet

__all__ = ["SiteImages"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteImages:
    """The training data of one site: images (n, C, H, W) uint8; labels (n,) when conditional.

    groups (n,) int64 where the data says whose image each is: equal numbers are one person. The
    numbers mean something at this site alone.

    n = 0 is a neighbour of n = 1, and under differential privacy must look the same from outside.
    """

    images: np.ndarray
    labels: np.ndarray | None
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"expected (n, C, H, W) uint8 images, got {self.images.shape}")
        if self.groups is not None and (
            self.groups.shape != (len(self.images),) or self.groups.dtype != np.int64
        ):
            raise ValueError(f"expected {len(self.images)} int64 groups, got {self.groups.shape}")

    @property
    def form(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @classmethod
    def of(cls, image_set: ImageSet) -> SiteImages:
        """All images of a set."""
        return cls(images=image_set.images, labels=image_set.labels, groups=image_set.groups)

    def take(self, indices: npt.NDArray[np.int64]) -> SiteImages:
        """The images at ``indices``, in that order; none is an answer, too."""
        return SiteImages(
            images=self.images[indices],
            labels=None if self.labels is None else self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
        )
