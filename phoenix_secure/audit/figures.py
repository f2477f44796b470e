"""Computes each attack's figures from its scores, with p-values adjusted over all tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attacks.epsilon.ceilings import exceeds_ceiling
from attacks.epsilon.trade_off import approximate_dp
from attacks.statistics.auc import advantage, auc, auc_difference
from attacks.statistics.placebo import check_placebo
from attacks.statistics.roc import Roc, TprAtFpr, roc, tpr_at_fpr
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.report import AttackReport, TprReport
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.significance import holm, low_fpr_p_value, rank_p_value
from phoenix_secure.audit.units import Units, figure

__all__ = ["adjusted_together", "attack_reports", "tpr_report"]

_CURVE_POINTS = 60
_DIGITS = 6
_PLACEBO_ERROR = 0.01  # chance that any attack's placebo is thought broken, all together


def tpr_report(found: TprAtFpr) -> TprReport:
    """Plain data of a TPR at an FPR."""
    return TprReport(
        fpr=found.target,
        tpr=None
        if found.tpr is None or found.tpr_interval is None
        else figure(found.tpr, found.tpr_interval),
        true_fpr=None
        if found.fpr is None or found.true_fpr_interval is None
        else figure(found.fpr, found.true_fpr_interval),
        coarse=found.coarse,
        reason=found.reason,
    )


def attack_reports(
    scored: Sequence[Scored], *, units: Units, plan: AuditPlan, also: Sequence[float] = ()
) -> tuple[AttackReport, ...]:
    """Every attack's figures on the evaluation group, p-values adjusted over all of them.

    also    p-values of further tests, which count towards the same false-alarm rate
    """
    of_rank, of_low = _p_values(scored, units=units)
    adjusted = _adjusted(of_rank, of_low, also)
    rest = iter(adjusted[len(of_rank) :])
    joint = [
        min(first, next(rest)) if second is not None else first
        for first, second in zip(adjusted, of_low, strict=False)
    ]
    return tuple(
        _report(
            one,
            p_values=(of_rank[k], of_low[k], joint[k]),
            share=len(scored),
            units=units,
            plan=plan,
        )
        for k, one in enumerate(scored)
    )


def adjusted_together(
    scored: Sequence[Scored], *, units: Units, also: Sequence[float]
) -> list[float]:
    """The p-values ``also``, adjusted over the attacks' and themselves (Holm)."""
    if not also:
        return []
    return _adjusted(*_p_values(scored, units=units), also)[-len(also) :]


def _p_values(scored: Sequence[Scored], *, units: Units) -> tuple[list[float], list[float | None]]:
    """Of the ranks, and at the low FPR where there is one."""
    members = units.membership
    of_rank = [rank_p_value(one.scores, membership=members) for one in scored]
    of_low = [
        None
        if units.low_fpr is None
        else low_fpr_p_value(one.scores, membership=members, target=units.low_fpr)
        for one in scored
    ]
    return of_rank, of_low


def _adjusted(
    of_rank: Sequence[float], of_low: Sequence[float | None], also: Sequence[float]
) -> list[float]:
    return holm([*of_rank, *(p for p in of_low if p is not None), *also])


def _report(
    one: Scored,
    *,
    p_values: tuple[float, float | None, float],
    share: int,
    units: Units,
    plan: AuditPlan,
) -> AttackReport:
    """One attack's figures; ``p_values`` are of its ranks, at the low FPR, and adjusted."""
    p_rank, p_low, p_adjusted = p_values
    members, blind = units.membership, units.blind
    curve = roc(one.scores, membership=members)
    area = auc(one.scores, membership=members, confidence=plan.confidence)
    gain = advantage(curve, confidence=plan.confidence)
    placebo = check_placebo(
        one.placebo_scores,
        membership=units.placebo,
        confidence=1 - _PLACEBO_ERROR / share,
    )
    excess = None
    if blind.scores is not None:
        excess = figure(
            *auc_difference(
                one.scores,
                baseline=blind.scores,
                membership=members,
                confidence=1 - plan.significance / share,
            )
        )
    above = None
    if plan.claim is not None and plan.claim.unit == units.unit:
        above = exceeds_ceiling(
            curve,
            trade_off=approximate_dp(plan.claim.epsilon, delta=plan.claim.delta),
            confidence=1 - plan.significance / share,
        )
    return AttackReport(
        name=one.name,
        access=one.access.value,
        setting=one.setting,
        reversed=one.sign < 0,
        chosen_on=one.chosen_on,
        choice_aucs=one.choice_aucs,
        auc=figure(area.value, area.interval),
        tpr=tuple(
            tpr_report(tpr_at_fpr(curve, target=fpr, confidence=plan.confidence))
            for fpr in plan.fprs
        ),
        curve=_thinned(curve),
        advantage=figure(gain.value, gain.interval),
        p_rank=p_rank,
        p_low_fpr=p_low,
        p_adjusted=p_adjusted,
        placebo_auc=placebo.auc,
        placebo_band=(placebo.band.low, placebo.band.high),
        placebo_inside=placebo.inside,
        excess=excess,
        above_ceiling=above,
        queries_per_record=one.queries_per_record,
        seconds=one.seconds,
    )


def _thinned(curve: Roc) -> tuple[tuple[float, float], ...]:
    """The last attainable point up to each of a few FPRs, evenly spaced on the logarithm.

    No threshold is told: a point is two counts.
    """
    targets = np.geomspace(1 / curve.num_non_members, 1, num=_CURVE_POINTS)
    # A target stands for the count that it means: 1/n rounded down would lose the first point.
    rows = np.searchsorted(curve.fpr, [0.0, *(targets * (1 + 1e-9))], side="right") - 1
    return tuple(
        (round(float(curve.fpr[row]), _DIGITS), round(float(curve.tpr[row]), _DIGITS))
        for row in sorted(set(rows.tolist()))
    )
