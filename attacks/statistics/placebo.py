"""Placebo: the whole attack on records that are all non-members, half of them called members.

Whatever it finds there is an artefact (an attack fitted on its own targets, two sources mixed, an
order that leaks), never membership.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from attacks.records import Membership
from attacks.statistics.auc import auc
from attacks.statistics.intervals import Interval
from attacks.statistics.power import null_auc_deviation

__all__ = ["Placebo", "check_placebo", "null_band", "placebo_split"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Placebo:
    """inside = False means that the attack or its data is broken: trust none of its figures."""

    auc: float
    band: Interval
    inside: bool


def placebo_split(num_records: int, *, rng: np.random.Generator) -> Membership:
    """(N,) booleans, half of them (rounded down) pseudo-members, drawn at random."""
    if num_records < 2:
        raise ValueError(f"expected at least 2 non-members to split, got {num_records}")
    flags = np.zeros(num_records, dtype=np.bool_)
    flags[rng.permutation(num_records)[: num_records // 2]] = True
    return flags


def null_band(num_members: int, *, num_non_members: int, confidence: float = 0.95) -> Interval:
    """Interval that holds a blind attack's AUC with probability ``confidence`` (normal limit)."""
    if not 0 < confidence < 1:
        raise ValueError(f"expected 0 < confidence < 1, got {confidence}")
    deviation = null_auc_deviation(num_members, num_non_members=num_non_members)
    half = float(norm.isf((1 - confidence) / 2)) * deviation
    return Interval(low=max(0.0, 0.5 - half), high=min(1.0, 0.5 + half), confidence=confidence)


def check_placebo(scores: ArrayLike, *, membership: ArrayLike, confidence: float = 0.99) -> Placebo:
    """Check the scores of an attack that was run from its start with pseudo-members.

    The split must be drawn *before* the attack (``placebo_split``) and given to every step that
    looks at membership; splitting finished scores tests nothing.
    """
    found = auc(scores, membership=membership)
    allowed = null_band(
        found.num_members, num_non_members=found.num_non_members, confidence=confidence
    )
    return Placebo(auc=found.value, band=allowed, inside=found.value in allowed)
