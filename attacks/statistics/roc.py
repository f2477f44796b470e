"""The ROC curve from counts alone: no grid, no interpolation, no nearest threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from attacks.records import check_membership, check_scores
from attacks.statistics.intervals import Interval, clopper_pearson

__all__ = ["Roc", "TprAtFpr", "band", "roc", "tpr_at_fpr"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Roc:
    """Every attainable operating point, from (0, 0) to (1, 1).

    Point i calls a record a member when its score is >= thresholds[i]; thresholds[0] is +inf. Equal
    scores enter together, so that a tie is never split in the attack's favour.

    Shape:      (P,) each; the counts are of members and non-members called members.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    num_members: int
    num_non_members: int

    @property
    def tpr(self) -> NDArray[np.float64]:
        """True-positive rate of each point."""
        return np.asarray(self.true_positives / self.num_members, dtype=np.float64)

    @property
    def fpr(self) -> NDArray[np.float64]:
        """False-positive rate of each point."""
        return np.asarray(self.false_positives / self.num_non_members, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class TprAtFpr:
    """The best attainable point whose *empirical* FPR does not exceed ``target``.

    tpr, tpr_interval, fpr, true_fpr_interval, threshold: None with ``reason`` where not estimable.
    true_fpr_interval:  where the FPR of that threshold on fresh non-members may lie; it is wide at
                        low targets and is the reason to quote no TPR without it.
    coarse:     fewer than 3 / target non-members: one false positive more would change the figure.
    """

    target: float
    tpr: float | None
    tpr_interval: Interval | None
    fpr: float | None
    true_fpr_interval: Interval | None
    threshold: float | None
    coarse: bool
    reason: str | None = None


def roc(scores: ArrayLike, *, membership: ArrayLike) -> Roc:
    """The exact ROC of ``scores``; raises ValueError for NaN, or no member or non-member."""
    values = check_scores(scores)
    members = check_membership(membership, num_records=len(values))
    order = np.argsort(-values, kind="stable")
    ranked, flags = values[order], members[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    true_positives = np.cumsum(flags)[last_of_tie]
    return Roc(
        thresholds=np.concatenate([[np.inf], ranked[last_of_tie]]),
        true_positives=np.concatenate([[0], true_positives]).astype(np.int64),
        false_positives=np.concatenate([[0], last_of_tie + 1 - true_positives]).astype(np.int64),
        num_members=int(members.sum()),
        num_non_members=int((~members).sum()),
    )


def tpr_at_fpr(curve: Roc, *, target: float, confidence: float = 0.95) -> TprAtFpr:
    """The TPR at FPR ``target`` with exact intervals, or why there is none.

    Guarantee:  never a point whose empirical FPR is above the target (taking the *nearest* one, as
                published code does, can report a TPR at ten times the FPR).
                Not estimable below 1 / target non-members: their smallest step is larger.
    Note:       the intervals treat records as independent. Records of one model are not, quite:
                read them as descriptive, and use ``epsilon`` for a claim about the mechanism.
    """
    if not 0 < target < 1:
        raise ValueError(f"expected 0 < target < 1, got {target}")
    available = curve.num_non_members
    if available * target < 1 - 1e-9:
        return TprAtFpr(
            target=target,
            tpr=None,
            tpr_interval=None,
            fpr=None,
            true_fpr_interval=None,
            threshold=None,
            coarse=True,
            reason=(
                f"not estimable: an FPR of {target:g} needs {int(np.ceil(1 / target - 1e-9))} "
                f"non-members, there are {available}"
            ),
        )
    allowed = int(np.floor(available * target + 1e-9))
    point = int(np.searchsorted(curve.false_positives, allowed, side="right")) - 1
    hits, alarms = int(curve.true_positives[point]), int(curve.false_positives[point])
    return TprAtFpr(
        target=target,
        tpr=hits / curve.num_members,
        tpr_interval=clopper_pearson(hits, num_trials=curve.num_members, confidence=confidence),
        fpr=alarms / available,
        true_fpr_interval=clopper_pearson(alarms, num_trials=available, confidence=confidence),
        threshold=float(curve.thresholds[point]),
        coarse=available * target < 3 - 1e-9,
    )


def band(
    curve: Roc, *, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pointwise Clopper-Pearson (low, high) for the TPR of each point, (P,) each.

    Pointwise: each point alone is covered, the whole curve is not. Compare curves with
    ``epsilon.ceilings.exceeds_ceiling``, which is simultaneous.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected 0 < confidence < 1, got {confidence}")
    tail, n, k = (1 - confidence) / 2, curve.num_members, curve.true_positives.astype(np.float64)
    low = np.where(k > 0, beta.ppf(tail, np.maximum(k, 1), n - k + 1), 0.0)
    high = np.where(k < n, beta.isf(tail, k + 1, np.maximum(n - k, 1)), 1.0)
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
