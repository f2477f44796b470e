"""Choosing an attack's timestep and sign where it is allowed: on shadows or a split of their own.

Chosen on the target, the best of many settings looks better than any of them is; and the sign of
an attack such as SecMI can be reversed on a model that is only moderately overfitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from attacks.records import Scores, check_scores
from attacks.statistics.auc import auc

__all__ = ["Choice", "choose"]

Setting = TypeVar("Setting")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(Generic[Setting]):
    """A setting and a sign, and where they come from, for the report.

    aucs:       of each setting on the data of the choice (below 0.5 where the sign is -1).
    chosen_on:  words for the report, such as "8 shadow models".
    """

    setting: Setting
    sign: int
    aucs: dict[Setting, float]
    chosen_on: str

    def apply(self, scores: ArrayLike) -> Scores:
        """The target's scores, for the chosen setting, with the chosen sign."""
        return self.sign * check_scores(scores)


def choose(
    scores: Mapping[Setting, ArrayLike], *, membership: ArrayLike, chosen_on: str
) -> Choice[Setting]:
    """The setting whose AUC is farthest from 0.5, and its direction.

    Shape:      each value of ``scores`` is (S, N), one row per shadow model, or (N,);
                ``membership`` has that shape too.
    Guarantee:  nothing of the target is an argument. AUCs are averaged over shadows, never pooled:
                two models' scores have no common scale.
    Raises:     ValueError for no settings or unequal shapes; ``chosen_on`` must not be empty.
    """
    if not scores:
        raise ValueError("expected at least one setting to choose from")
    if not chosen_on.strip():
        raise ValueError("chosen_on: say on which data the choice is made; it is never the target")
    flags = np.atleast_2d(np.asarray(membership))
    aucs = {}
    for setting, values in scores.items():
        rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if rows.shape != flags.shape:
            raise ValueError(f"{setting}: scores {rows.shape} against membership {flags.shape}")
        each = [auc(row, membership=flag).value for row, flag in zip(rows, flags, strict=True)]
        aucs[setting] = float(np.mean(each))
    best = max(aucs, key=lambda setting: abs(aucs[setting] - 0.5))
    return Choice(setting=best, sign=1 if aucs[best] >= 0.5 else -1, aucs=aucs, chosen_on=chosen_on)
