"""Epsilon from many independently trained models, one challenge bit each.

Only then are the counts binomial. Natural records of *one* model share its training: for those the
result is descriptive, and ``one_run`` is the valid bound.
"""

from __future__ import annotations

import math

from attacks.statistics.intervals import Side, clopper_pearson
from attacks.statistics.power import first_that

__all__ = ["epsilon_from_counts", "runs_for_epsilon"]


def epsilon_from_counts(
    *,
    false_positives: int,
    num_out: int,
    false_negatives: int,
    num_in: int,
    delta: float,
    confidence: float = 0.95,
) -> float:
    """The epsilon that the two error rates prove, 0 when they prove nothing.

    ln((1 - delta - FNR) / FPR) or the same with the rates exchanged, both at their upper
    Clopper-Pearson bounds, each of which spends half of 1 - confidence.

    Guarantee:  at most the true epsilon with probability >= ``confidence``, *for a threshold fixed
                beforehand*: the maximum over thresholds needs its own correction.
    Source:     Jagielski, Ullman, Oprea (2020), arXiv:2006.07709; Nasr et al. (2021),
                arXiv:2101.04535.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"expected 0 <= delta < 1, got {delta}")
    each = 1 - (1 - confidence) / 2
    fpr = clopper_pearson(
        false_positives, num_trials=num_out, confidence=each, side=Side.UPPER
    ).high
    fnr = clopper_pearson(false_negatives, num_trials=num_in, confidence=each, side=Side.UPPER).high
    best = max((1 - delta - fnr) / fpr, (1 - delta - fpr) / fnr)
    return math.log(best) if best > 1 else 0.0


def runs_for_epsilon(
    epsilon: float, *, delta: float = 0.0, confidence: float = 0.95, limit: int = 10**7
) -> int:
    """The fewest runs *per side* with which a perfect attack proves ``epsilon``.

    >>> runs_for_epsilon(4.0)
    204
    """

    def proven(n: int) -> bool:
        bound = epsilon_from_counts(
            false_positives=0,
            num_out=n,
            false_negatives=0,
            num_in=n,
            delta=delta,
            confidence=confidence,
        )
        return bound >= epsilon

    return first_that(proven, start=1, limit=limit)
