"""The facts to look at before training on a set: counts, pixel statistics, duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phoenix_secure.data.duplicates import find_duplicates
from phoenix_secure.data.images import ImageSet

__all__ = ["ImageSummary", "summarise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSummary:
    """The summary that ``phoenix-secure data show`` prints.

    Units:      mean and standard deviation per channel over all pixels, with 0..255 as [0, 1].
    """

    images_per_class: tuple[int, ...]  # () without labels
    mean: tuple[float, ...]
    std: tuple[float, ...]  # of the population: divided by the number of pixels
    # Images whose pixels equal those of an earlier image. A diffusion model memorises repeated
    # images far more readily (Carlini et al. 2023, arXiv:2301.13188), so remove them first.
    num_duplicates: int
    num_near_duplicates: int  # that have one nearly like them (``duplicates``)
    num_across_groups: int | None  # that are, exactly or nearly, another person's, too
    digest: str


def summarise(image_set: ImageSet) -> ImageSummary:
    """Summarise ``image_set`` from exact integer counts, without a float copy of its pixels."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(image_set.channels):
        counts = np.bincount(image_set.images[:, channel].ravel(), minlength=256)
        weights = counts / counts.sum()
        mean = float(weights @ levels)
        means.append(mean)
        stds.append(float(np.sqrt(weights @ (levels - mean) ** 2)))
    found = find_duplicates(image_set)
    per_class: tuple[int, ...] = ()
    if image_set.labels is not None:
        per_class = tuple(np.bincount(image_set.labels, minlength=image_set.num_classes).tolist())
    return ImageSummary(
        images_per_class=per_class,
        mean=tuple(means),
        std=tuple(stds),
        num_duplicates=found.exact,
        num_near_duplicates=found.near,
        num_across_groups=found.across_groups,
        digest=image_set.digest(),
    )
