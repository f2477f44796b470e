"""Statistical power of an audit of a given size, to be asked before it is run.

"No leak found" means little without the smallest leak that would have been found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binom, norm

from attacks.statistics.intervals import Side, clopper_pearson

__all__ = [
    "detectable_auc",
    "detectable_tpr",
    "first_that",
    "non_members_to_certify",
    "null_auc_deviation",
]


def null_auc_deviation(num_members: int, *, num_non_members: int) -> float:
    """Standard deviation of the AUC of a blind attack: sqrt((m + n + 1) / (12 m n)), exact."""
    m, n = num_members, num_non_members
    if m < 1 or n < 1:
        raise ValueError(f"expected at least one record in each group, got {m} and {n}")
    return float(np.sqrt((m + n + 1) / (12 * m * n)))


def detectable_auc(
    num_members: int, *, num_non_members: int, power: float = 0.8, significance: float = 0.05
) -> float:
    """The smallest AUC found with probability ``power`` by a two-sided test (capped at 1).

    >>> round(detectable_auc(1000, num_non_members=1000), 3)
    0.536
    """
    _check(power, significance)
    quantiles = norm.isf(significance / 2) + norm.ppf(power)
    deviation = null_auc_deviation(num_members, num_non_members=num_non_members)
    return float(min(1.0, 0.5 + quantiles * deviation))


def detectable_tpr(
    fpr: float, *, num_members: int, power: float = 0.8, significance: float = 0.05
) -> float:
    """The smallest TPR at a *known* FPR that an exact one-sided binomial test finds with ``power``.

    The test rejects TPR <= fpr. It is the best case: a threshold set on few non-members has an
    uncertain FPR on top.
    """
    _check(power, significance)
    if not 0 < fpr < 1 or num_members < 1:
        raise ValueError(f"expected 0 < fpr < 1 and num_members >= 1, got {fpr}, {num_members}")
    needed = int(binom.isf(significance, num_members, fpr)) + 1
    if needed > num_members:
        return 1.0
    return _smallest(lambda tpr: float(binom.sf(needed - 1, num_members, tpr)) >= power, low=fpr)


def non_members_to_certify(
    fpr: float, *, false_positives: int = 0, confidence: float = 0.95
) -> int:
    """The fewest non-members with which ``false_positives`` alarms still prove FPR <= ``fpr``.

    >>> non_members_to_certify(0.01), non_members_to_certify(0.001, false_positives=5)
    (299, 10511)
    """
    if not 0 < fpr < 1 or false_positives < 0:
        raise ValueError(f"expected 0 < fpr < 1, false_positives >= 0: {fpr}, {false_positives}")

    def proven(n: int) -> bool:
        bound = clopper_pearson(
            false_positives, num_trials=n, confidence=confidence, side=Side.UPPER
        )
        return bound.high <= fpr

    return first_that(proven, start=false_positives + 1)


def _check(power: float, significance: float) -> None:
    if not (0 < power < 1 and 0 < significance < 1):
        raise ValueError(f"expected 0 < power, significance < 1, got {power} and {significance}")


def first_that(holds: Callable[[int], bool], *, start: int, limit: int = 10**9) -> int:
    """The first integer >= start for which ``holds``, which must stay true from there on."""
    high = start
    while not holds(high):
        if high > limit:
            raise ValueError(f"not reached with {limit} records")
        high *= 2
    low = max(start - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _smallest(holds: Callable[[float], bool], *, low: float, high: float = 1.0) -> float:
    """The smallest argument in [low, high] for which ``holds``, which stays true from there on."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
