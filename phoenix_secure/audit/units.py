"""The units that an audit's figures count: images, or persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attacks.records import Membership
from attacks.statistics.blind import BlindBaseline
from attacks.statistics.intervals import Interval
from phoenix_secure.audit.report import BlindReport, Figure

__all__ = ["Units", "blind_report", "figure", "low_fpr_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """What tests, intervals and the verdict treat as independent.

    one, many    in words
    unit         of the privacy that a guarantee for one of them is about
    membership   (N,), in the order of the scores
    placebo      pseudo-membership of those that are no members
    blind        tells them apart without the model
    low_fpr      the false-positive rate that is tested; None where none can be estimated
    """

    one: str
    many: str
    unit: str
    membership: Membership
    placebo: Membership
    blind: BlindBaseline
    low_fpr: float | None

    @property
    def num_members(self) -> int:
        return int(self.membership.sum())

    @property
    def num_others(self) -> int:
        return len(self.membership) - self.num_members


def low_fpr_of(fprs: Sequence[float], *, num_others: int) -> float | None:
    """The lowest that leaves three false alarms; else the lowest that can be estimated at all."""
    estimable = [fpr for fpr in fprs if num_others * fpr >= 1 - 1e-9]
    steady = [fpr for fpr in estimable if num_others * fpr >= 3 - 1e-9]
    return min(steady or estimable, default=None)


def figure(value: float, interval: Interval) -> Figure:
    """A value with its interval."""
    return Figure(value=value, low=interval.low, high=interval.high)


def blind_report(blind: BlindBaseline) -> BlindReport:
    """Plain data of a blind baseline."""
    return BlindReport(
        auc=None if blind.auc is None else figure(blind.auc.value, blind.auc.interval),
        differs=blind.differs,
        reason=blind.reason,
    )
