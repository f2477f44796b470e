"""Area under the ROC curve and the advantage, each with an interval that is never a point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from attacks.records import Membership, Scores, check_membership, check_scores
from attacks.statistics.intervals import Interval
from attacks.statistics.roc import Roc

__all__ = ["Advantage", "Auc", "advantage", "auc", "auc_difference"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Auc:
    """P[score of a member > score of a non-member] + P[equal] / 2.

    method:     "delong" (logit scale), or "newcombe" where the sample's DeLong variance is 0 (a
                perfect separation) or a group has fewer than 10 records.
    """

    value: float
    interval: Interval
    method: str
    num_members: int
    num_non_members: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Advantage:
    """max over thresholds of TPR - FPR, and an interval that pays for that maximum."""

    value: float
    interval: Interval
    threshold: float


def auc(scores: ArrayLike, *, membership: ArrayLike, confidence: float = 0.95) -> Auc:
    """The exact AUC (ties count half) with an interval of about ``confidence`` coverage.

    Source:     DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44; Newcombe (2006), method 5,
                Statistics in Medicine 25, where DeLong does not apply.
    """
    values = check_scores(scores)
    members = check_membership(membership, num_records=len(values))
    if not 0 < confidence < 1:
        raise ValueError(f"expected 0 < confidence < 1, got {confidence}")
    of_members, of_others = _placements(values, members=members)
    m, n = len(of_members), len(of_others)
    value = float(of_members.mean())
    z = float(norm.isf((1 - confidence) / 2))
    variance = 0.0
    if min(m, n) >= 10 and 0 < value < 1:
        variance = float(of_members.var(ddof=1) / m + of_others.var(ddof=1) / n)
    if variance > 0:
        centre, half = np.log(value / (1 - value)), z * np.sqrt(variance) / (value * (1 - value))
        low, high = (1 / (1 + np.exp(-np.array([centre - half, centre + half])))).tolist()
        method = "delong"
    else:
        low, high = _newcombe(value, m=m, n=n, z=z)
        method = "newcombe"
    return Auc(
        value=value,
        interval=Interval(low=low, high=high, confidence=confidence),
        method=method,
        num_members=m,
        num_non_members=n,
    )


def auc_difference(
    scores: ArrayLike, *, baseline: ArrayLike, membership: ArrayLike, confidence: float = 0.95
) -> tuple[float, Interval]:
    """AUC(scores) - AUC(baseline) on the *same* records, with DeLong's paired interval.

    Raises:     ValueError for unequal lengths or fewer than 10 records in a group.
    """
    first, second = check_scores(scores), check_scores(baseline, name="baseline")
    if len(first) != len(second):
        raise ValueError(f"scores has {len(first)} values, baseline {len(second)}")
    members = check_membership(membership, num_records=len(first))
    if min(members.sum(), (~members).sum()) < 10:
        raise ValueError("expected at least 10 members and 10 non-members")
    a, b = _placements(first, members=members), _placements(second, members=members)
    gains = [a[group] - b[group] for group in (0, 1)]
    value = float(gains[0].mean())
    variance = sum(float(gain.var(ddof=1)) / len(gain) for gain in gains)
    half = float(norm.isf((1 - confidence) / 2)) * float(np.sqrt(variance))
    return value, Interval(
        low=max(-1.0, value - half), high=min(1.0, value + half), confidence=confidence
    )


def advantage(curve: Roc, *, confidence: float = 0.95) -> Advantage:
    """max(TPR - FPR) with the Dvoretzky-Kiefer-Wolfowitz-Massart interval of both groups.

    Guarantee:  covers with probability >= ``confidence`` although the threshold was picked on the
                data (an interval of the picked point alone does not).
    Source:     Massart (1990), Annals of Probability 18(3).
    """
    gaps = curve.tpr - curve.fpr
    best = int(np.argmax(gaps))
    half = _dkw(curve.num_members, confidence) + _dkw(curve.num_non_members, confidence)
    value = float(gaps[best])
    return Advantage(
        value=value,
        interval=Interval(
            low=max(0.0, value - half), high=min(1.0, value + half), confidence=confidence
        ),
        threshold=float(curve.thresholds[best]),
    )


def _dkw(n: int, confidence: float) -> float:
    """Half-width of a band that holds with probability (1 + confidence) / 2 (two are joined)."""
    return float(np.sqrt(np.log(4 / (1 - confidence)) / (2 * n)))


def _placements(
    values: Scores, *, members: Membership
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """DeLong's components: the share of the other group that a record stands above."""
    inside, outside = values[members], values[~members]
    ranks = rankdata(np.concatenate([inside, outside]))
    m, n = len(inside), len(outside)
    of_members = (ranks[:m] - rankdata(inside)) / n
    of_others = 1 - (ranks[m:] - rankdata(outside)) / m
    return of_members, of_others


def _newcombe(value: float, *, m: int, n: int, z: float) -> tuple[float, float]:
    """Invert |value - theta| = z sd(theta), the variance being Hanley-McNeil's with mean size."""

    def deviation(theta: float) -> float:
        size = (m + n) / 2 - 1
        variance = (
            theta
            * (1 - theta)
            * (1 + size * (1 - theta) / (2 - theta) + size * theta / (1 + theta))
            / (m * n)
        )
        return float(z * np.sqrt(max(variance, 0.0)))

    # theta = value is a root of its own at 0 and 1, where the variance vanishes: stay off it.
    edge = 1e-9
    low, high = 0.0, 1.0
    if value > edge:
        low = float(brentq(lambda u: value - u - deviation(u), edge, min(value, 1 - edge)))
    if value < 1 - edge:
        high = float(brentq(lambda u: u - value - deviation(u), max(value, edge), 1 - edge))
    return low, high
