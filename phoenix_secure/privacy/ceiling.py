"""A guarantee's ceiling on any attack; without torch, for readers that only check."""

from __future__ import annotations

import math

__all__ = ["tpr_ceiling"]


def tpr_ceiling(fpr: float, *, epsilon: float, delta: float) -> float:
    """The most true positives that any attack on an (epsilon, delta)-private release can have.

    min(1, e^epsilon FPR + delta, 1 - e^-epsilon (1 - delta - FPR))
    Source:     Kairouz, Oh and Viswanath (2015), arXiv:1311.0776, Theorem 2.1.

    >>> tpr_ceiling(0.01, epsilon=0.0, delta=0.0)
    0.01
    """
    growth = math.exp(min(epsilon, 700.0))
    return max(fpr, min(1.0, growth * fpr + delta, 1.0 - (1.0 - delta - fpr) / growth))
