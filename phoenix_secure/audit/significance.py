"""Computes p-values from scores, and one false-alarm rate over many p-values.

Both tests are exact rank statements: if members and non-members were exchangeable (a model that
learnt nothing about its members in particular), their order would be a random permutation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import hypergeom, mannwhitneyu

from attacks.records import check_membership, check_scores
from attacks.statistics.roc import roc

__all__ = ["holm", "low_fpr_p_value", "rank_p_value"]

_EXACT = 100  # records a side: beyond, the normal limit is as good and takes no memory


def rank_p_value(scores: ArrayLike, *, membership: ArrayLike) -> float:
    """One-sided Mann-Whitney test of "members score no higher": exact up to 100 records a side
    without ties, else the normal limit corrected for ties and continuity."""
    values = check_scores(scores)
    members = check_membership(membership, num_records=len(values))
    largest = max(members.sum(), (~members).sum())
    is_exact = largest <= _EXACT and len(np.unique(values)) == len(values)
    method = "exact" if is_exact else "asymptotic"
    found = mannwhitneyu(values[members], values[~members], alternative="greater", method=method)
    return float(found.pvalue)


def low_fpr_p_value(scores: ArrayLike, *, membership: ArrayLike, target: float) -> float | None:
    """The chance that so many members lie above the threshold of FPR ``target`` by order alone.

    With k = floor(n target) false alarms allowed, at least x members stand above the k + 1st
    non-member exactly when the top x + k records hold at most k non-members: a hypergeometric
    probability. Ties count against the attack. None below 1 / target non-members.
    """
    curve = roc(scores, membership=membership)
    n, m = curve.num_non_members, curve.num_members
    if n * target < 1 - 1e-9:
        return None
    allowed = int(np.floor(n * target + 1e-9))
    point = int(np.searchsorted(curve.false_positives, allowed, side="right")) - 1
    hits = int(curve.true_positives[point])
    if hits == 0:
        return 1.0
    return float(hypergeom.cdf(allowed, m + n, n, hits + allowed))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: rejecting those <= a keeps the chance of any false rejection <= a,
    however the tests depend on one another.

    Source:     Holm (1979), Scandinavian Journal of Statistics 6(2).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return [float(value) for value in adjusted]
