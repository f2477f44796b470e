"""Exposed groups and records: figures per class or site, and the attacker's surest records.

An average hides the person it is not true for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attacks.records import check_membership, check_scores
from attacks.statistics.auc import Auc, auc

__all__ = ["ExposedRecord", "Stratum", "by_group", "worst_records"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """One group's figure; its interval holds for all groups together (Bonferroni).

    auc:        None with ``reason`` below 10 members or non-members.
    """

    group: int | str
    num_members: int
    num_non_members: int
    auc: Auc | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExposedRecord:
    """index of a member; p_value = (1 + #{non-members with at least its score}) / (1 + n).

    adjusted:   p_value times the number of members (at most 1): below 0.05 the record is exposed
                although it is the worst of many.
    """

    index: int
    score: float
    p_value: float
    adjusted: float


def by_group(
    scores: ArrayLike, *, membership: ArrayLike, groups: ArrayLike, confidence: float = 0.95
) -> tuple[Stratum, ...]:
    """AUC inside each group (members against non-members of the same group), in group order."""
    values = check_scores(scores)
    members = check_membership(membership, num_records=len(values))
    names = np.asarray(groups)
    if names.shape != values.shape:
        raise ValueError(f"groups: expected shape {values.shape}, got {names.shape}")
    distinct = np.unique(names)
    strata = []
    for name in distinct:
        inside = names == name
        m, n = int((members & inside).sum()), int((~members & inside).sum())
        found, reason = None, None
        if min(m, n) >= 10:
            found = auc(
                values[inside],
                membership=members[inside],
                confidence=1 - (1 - confidence) / len(distinct),
            )
        else:
            reason = f"not estimable: needs 10 members and 10 non-members, there are {m} and {n}"
        strata.append(
            Stratum(group=name.item(), num_members=m, num_non_members=n, auc=found, reason=reason)
        )
    return tuple(strata)


def worst_records(scores: ArrayLike, *, membership: ArrayLike, k: int) -> tuple[ExposedRecord, ...]:
    """The ``k`` members with the highest scores, worst first."""
    values = check_scores(scores)
    members = check_membership(membership, num_records=len(values))
    if not 1 <= k <= members.sum():
        raise ValueError(f"expected 1 <= k <= {int(members.sum())} members, got {k}")
    outside = np.sort(values[~members])
    candidates = np.flatnonzero(members)
    worst = candidates[np.argsort(-values[candidates], kind="stable")][:k]
    records = []
    for index in worst:
        as_high = len(outside) - int(np.searchsorted(outside, values[index], side="left"))
        p_value = (1 + as_high) / (1 + len(outside))
        records.append(
            ExposedRecord(
                index=int(index),
                score=float(values[index]),
                p_value=p_value,
                adjusted=min(1.0, p_value * len(candidates)),
            )
        )
    return tuple(records)
