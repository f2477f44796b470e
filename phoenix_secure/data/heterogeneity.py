"""Measures the heterogeneity of the sites' images in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial import distance

__all__ = ["Heterogeneity", "heterogeneity_of", "label_counts", "quantity_gini"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Heterogeneity:
    """Label and quantity skew over K sites and C classes.

    Label figures are None for a set without labels. How many images a site holds, and of which
    classes, says something about its owner: in a federation of real sites these are not public.
    """

    images_per_site: tuple[int, ...]
    quantity_gini: float  # 0: all sites equal; (K - 1) / K: one site holds everything
    quantity_ratio: float  # largest site / smallest site
    # Each row p_k sums to 1.
    label_distribution: npt.NDArray[np.float64] | None = field(repr=False)
    mean_pairwise_jensen_shannon: float | None  # distance, base 2, in [0, 1]
    mean_total_variation: float | None  # to the distribution of all sites together, in [0, 1)
    effective_classes_per_site: tuple[float, ...]  # in [1, C]; () without labels


def label_counts(
    labels: npt.NDArray[np.int64], parts: Sequence[npt.NDArray[np.int64]], *, num_classes: int
) -> npt.NDArray[np.int64]:
    """The number of images of each class at each site.

    Shape:      labels (N,), parts K index arrays; (K, num_classes) out.
    Raises:     ValueError for a label outside 0..num_classes-1.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"expected labels in 0..{num_classes - 1}")
    return np.stack([np.bincount(labels[part], minlength=num_classes) for part in parts])


def quantity_gini(sizes: Sequence[int]) -> float:
    """The Gini coefficient of the sites' sizes n_k: sum_ij |n_i - n_j| / (2 K^2 mean(n)).

    Guarantee:  in [0, (K - 1) / K]; 0 exactly when all sites hold equally many.
    Raises:     ValueError for no sites, a negative size, or no images at all.

    >>> quantity_gini([5, 5, 5])
    0.0
    >>> quantity_gini([0, 0, 0, 8])
    0.75
    """
    n = np.sort(np.asarray(sizes, dtype=np.float64))
    if n.size == 0 or n[0] < 0 or n.sum() == 0:
        raise ValueError("expected at least one site, sizes >= 0 and at least one image")
    # The double sum, written over the sorted sizes: sum_i (2 i - K - 1) n_(i), i = 1..K.
    ranks = 2 * np.arange(1, n.size + 1) - n.size - 1
    return float(ranks @ n / (n.size * n.sum()))


def heterogeneity_of(
    labels: npt.NDArray[np.int64] | None,
    parts: Sequence[npt.NDArray[np.int64]],
    *,
    num_classes: int,
) -> Heterogeneity:
    """Measure a partition.

    Shape:      labels (N,) or None; parts K non-empty index arrays.
    Units:      with p_k the label distribution of site k and p that of all sites together,
                Jensen-Shannon distance sqrt(JSD_2(p_j, p_k)) in base 2, so that 1 means disjoint
                classes, averaged over the K (K - 1) / 2 pairs (0 for one site);
                total variation sum_c |p_kc - p_c| / 2, averaged over sites;
                effective number of classes exp(H(p_k)), H in nats.
    Raises:     ValueError for no sites or an empty one.
    Source:     Endres and Schindelin (2003), doi:10.1109/TIT.2003.813506 (the distance); Hill
                (1973), doi:10.2307/1934352 (effective number, order 1).
    """
    sizes = tuple(len(part) for part in parts)
    if not sizes or min(sizes) == 0:
        raise ValueError("expected at least one site and no empty site")
    ratio = max(sizes) / min(sizes)
    if labels is None:
        return Heterogeneity(
            images_per_site=sizes,
            quantity_gini=quantity_gini(sizes),
            quantity_ratio=ratio,
            label_distribution=None,
            mean_pairwise_jensen_shannon=None,
            mean_total_variation=None,
            effective_classes_per_site=(),
        )
    counts = label_counts(labels, parts, num_classes=num_classes)
    p = counts / counts.sum(axis=1, keepdims=True)
    overall = counts.sum(axis=0) / counts.sum()
    first, second = np.triu_indices(len(parts), k=1)
    pairwise = distance.jensenshannon(p[first], p[second], base=2, axis=1)
    # Rounding can make the divergence of two equal rows a hair negative, and its root NaN.
    pairwise = np.nan_to_num(pairwise, nan=0.0)
    logs = np.log(p, where=p > 0, out=np.zeros_like(p))
    return Heterogeneity(
        images_per_site=sizes,
        quantity_gini=quantity_gini(sizes),
        quantity_ratio=ratio,
        label_distribution=p,
        mean_pairwise_jensen_shannon=float(pairwise.mean()) if pairwise.size else 0.0,
        mean_total_variation=float(np.abs(p - overall).sum(axis=1).mean() / 2),
        effective_classes_per_site=tuple(np.exp(-(p * logs).sum(axis=1)).tolist()),
    )
