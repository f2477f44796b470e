"""The classes of a model's samples, as a classifier of real images sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import DataError

__all__ = ["ClassCoverage", "class_coverage"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCoverage:
    """Predicted classes of generated images beside the real ones.

    histogram counts images by predicted class; entropy_bits is that of the histogram (log2 of the
    number of classes when all are sampled alike); total_variation in [0, 1] is its distance to the
    real classes; mean_confidence in [1/K, 1] is the mean largest probability (low for images that
    look like no class, but a classifier can be sure of nonsense too).
    """

    histogram: tuple[int, ...]
    entropy_bits: float
    total_variation: float
    mean_confidence: float


def class_coverage(
    probabilities: npt.NDArray[np.floating[Any]], *, real_labels: npt.NDArray[np.integer[Any]]
) -> ClassCoverage:
    """Summarise class probabilities of generated images against the labels of real ones.

    Shape:      probabilities (N, K), rows sum to 1; real_labels (M,) in 0..K-1; N, M >= 1.
    Guarantee:  independent of the order of either. The histogram of N images differs from the
                real classes by chance too: total variation is about sqrt(K / (2 pi N)) for K
                equal classes and no difference at all.
    Raises:     DataError for another shape, NaN, rows that are no distribution, or labels outside.
    Source:     total variation TV(p, q) = sum |p_i - q_i| / 2; Shannon (1948) for the entropy.

    >>> some = class_coverage(np.eye(2)[[0, 0, 0, 1]], real_labels=np.array([0, 1]))
    >>> some.histogram, some.total_variation
    ((3, 1), 0.25)
    """
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise DataError(f"class probabilities have shape {probabilities.shape}: expected (N, K)")
    sums = probabilities.sum(axis=1)
    if not (probabilities >= 0).all() or not np.allclose(sums, 1, atol=1e-3):
        raise DataError("class probabilities are no distributions: rows must be >= 0 and sum to 1")
    num_classes = probabilities.shape[1]
    if (
        real_labels.ndim != 1
        or real_labels.size == 0
        or not np.issubdtype(real_labels.dtype, np.integer)
        or real_labels.min() < 0
        or real_labels.max() >= num_classes
    ):
        raise DataError(f"real labels must be whole numbers (M,) in 0..{num_classes - 1}")
    histogram = np.bincount(probabilities.argmax(axis=1), minlength=num_classes)
    drawn = histogram / histogram.sum()
    real = np.bincount(real_labels, minlength=num_classes) / len(real_labels)
    present = drawn[drawn > 0]
    return ClassCoverage(
        histogram=tuple(int(count) for count in histogram),
        entropy_bits=abs(float((present * np.log2(present)).sum())),
        total_variation=float(np.abs(drawn - real).sum() / 2),
        mean_confidence=float(probabilities.max(axis=1).mean()),
    )
