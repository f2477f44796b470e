"""The mean of plaintext updates; ``round/step.py`` moves the model by it.

In float64 and in a fixed order of sites, so that a resumed run is the same run bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["mean_update"]


def mean_update(deltas: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Weighted mean of the sites' updates.

    Shape:      K vectors (d,) and K weights > 0 -> (d,) float64.
    Source:     McMahan et al. (2017), Algorithm 1, with weights n_k.
    """
    if not deltas or len(deltas) != len(weights) or min(weights) <= 0:
        raise ValueError("expected as many updates as weights, at least one, weights > 0")
    total = np.zeros(deltas[0].shape, np.float64)
    for delta, weight in zip(deltas, weights, strict=True):
        total += delta.astype(np.float64) * weight
    return total / float(sum(weights))
