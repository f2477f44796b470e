"""Extraction: generated samples that are near copies of a training image.

Source:     Carlini et al. (2023), arXiv:2301.13188.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.distances import k_nearest
from attacks.records import Embedding, Progress, check_images, embedded, no_progress
from attacks.statistics.intervals import Interval, Side, clopper_pearson

__all__ = ["Extraction", "extract", "likely_copies"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """A count of extracted images, with its limits.

    The rate is per *generated sample* of this generator. The number of distinct training images
    found grows with the number of samples, so it is a lower bound of what could be found.

    ratios:     (M,) the paper's l(g, x) of each sample to its nearest training image; small = copy.
    nearest:    (M,) that image's index.
    rate:       one-sided 95 % upper bound on a sample's chance of being a copy (3/M when none is).
    """

    ratios: NDArray[np.float64]
    nearest: NDArray[np.int64]
    num_flagged: int
    num_distinct: int
    rate: Interval
    threshold: float


def extract(
    train: ArrayLike,
    *,
    samples: ArrayLike,
    num_neighbours: int = 50,
    alpha: float = 0.5,
    threshold: float = 1.0,
    embed: Embedding | None = None,
    progress: Progress = no_progress,
) -> Extraction:
    """Flag samples g with ||g - x|| < threshold * alpha * mean_{y in S_g} ||g - y||.

    x is the training image nearest to g and S_g its ``num_neighbours`` nearest ones, so that a
    sample near *everything* (a blurred mean) is no copy.

    Shape:      train (N, C, H, W), samples (M, C, H, W).
    Raises:     ValueError for fewer than ``num_neighbours`` training images (the ratio's scale
                would be that of the copy itself) or constants that are not positive.
    """
    records = check_images(train, name="train")
    generated = check_images(samples, name="samples", like=records)
    if alpha <= 0 or threshold <= 0:
        raise ValueError(f"expected alpha > 0 and threshold > 0, got {alpha} and {threshold}")
    if num_neighbours < 2 or len(records) < num_neighbours:
        raise ValueError(
            f"expected 2 <= num_neighbours <= {len(records)} training images, got {num_neighbours}"
        )
    found = k_nearest(
        embedded(generated, embed=embed, name="samples"),
        pool=embedded(records, embed=embed, name="train"),
        k=num_neighbours,
        progress=progress,
    )
    scale = alpha * found.distances.mean(axis=1)
    # A sample equal to all its neighbours has scale 0: it is a copy, of several equal images.
    ratios = np.divide(found.distances[:, 0], scale, out=np.zeros(len(scale)), where=scale > 0)
    flagged = ratios < threshold
    return Extraction(
        ratios=ratios,
        nearest=found.indices[:, 0],
        num_flagged=int(flagged.sum()),
        num_distinct=len(np.unique(found.indices[flagged, 0])),
        rate=clopper_pearson(
            int(flagged.sum()), num_trials=len(ratios), confidence=0.95, side=Side.UPPER
        ),
        threshold=threshold,
    )


def likely_copies(
    samples: ArrayLike,
    *,
    num_claims: int,
    num_neighbours: int = 50,
    embed: Embedding | None = None,
    progress: Progress = no_progress,
) -> NDArray[np.int64]:
    """The filter of generate-and-filter: the samples that most likely repeat a training image.

    A memorised image is generated again and again, so that its samples lie nearer to one another
    than samples of their kind do: the ratio of ``extract``, to the other samples in place of the
    training images. No training image is seen.

    Shape:      samples (M, C, H, W); result (num_claims,) indices, the likeliest first.
    Raises:     ValueError for num_claims or num_neighbours that M samples do not hold.
    """
    generated = check_images(samples, name="samples")
    if not 1 <= num_claims <= len(generated):
        raise ValueError(f"expected 1 <= num_claims <= {len(generated)}, got {num_claims}")
    if not 2 <= num_neighbours < len(generated):
        raise ValueError(
            f"expected 2 <= num_neighbours < {len(generated)} samples, got {num_neighbours}"
        )
    vectors = embedded(generated, embed=embed, name="samples")
    found = k_nearest(vectors, pool=vectors, k=num_neighbours + 1, progress=progress)
    others = found.distances[:, 1:]  # the nearest of all is the sample itself
    scale = others.mean(axis=1)
    ratios = np.divide(others[:, 0], scale, out=np.zeros(len(scale)), where=scale > 0)
    return np.argsort(ratios, kind="stable")[:num_claims]
