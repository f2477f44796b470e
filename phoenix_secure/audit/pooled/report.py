"""From counts to the audit's report: the same figures as from the scores, rounded to their bins.

A site's own counts and the sum over all sites go the same way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from attacks.statistics.auc import auc
from attacks.statistics.blind import BlindBaseline
from phoenix_secure.audit.attack import Access
from phoenix_secure.audit.figures import attack_reports
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.pooled.attack_list import POOLED
from phoenix_secure.audit.pooled.bins import expanded
from phoenix_secure.audit.report import AuditReport, Figure, PooledReport, StratumReport
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.units import Units, blind_report
from phoenix_secure.audit.verdict import decide
from phoenix_secure.errors import DataError
from phoenix_secure.federation.secagg.pooled_layout import AttackCounts, PooledCounts, SideCounts

__all__ = ["FIXED", "pooled_report"]

FIXED = "no image: fixed in the plan, before training"
_FEWEST = 10  # members and others of a class, for an interval
# Pairs of a member and another that may lie in one bin: they could move an AUC by half of it.
_MOST_TIES = 0.1


def pooled_report(
    counts: PooledCounts,
    *,
    plan: AuditPlan,
    pooled: PooledReport,
    target: dict[str, str],
    class_names: tuple[str, ...],
    edition: Literal["public", "confidential"],
    seconds: float,
) -> AuditReport:
    """The report of ``counts``.

    Raises:     DataError where the counts allow no figure.
    """
    units = _units(counts, plan=plan, one=pooled.unit)
    scored = [
        _scored(attack.name, attack.setting, attack.queries, found, seconds=seconds)
        for attack, found in zip(POOLED, counts.attacks, strict=True)
    ]
    reports = attack_reports(scored, units=units, plan=plan)
    return AuditReport(
        edition=edition,
        verdict=decide(reports, units=units, canaries=None, plan=plan, doubts=_doubts(counts)),
        game=_game(plan, pooled),
        target=target,
        plan=plan,
        plan_sha256=plan.sha256,
        other_plans=0,
        choice_source=FIXED,
        attacks=reports,
        skipped={},
        blind=blind_report(units.blind),
        loss_of_members=None,
        loss_of_non_members=None,
        strata=_strata(counts, plan=plan, class_names=class_names),
        exposed=(),
        copying=None,
        canaries=None,
        federated=None,
        pooled=pooled,
        seconds=seconds,
    )


def _units(counts: PooledCounts, *, plan: AuditPlan, one: str) -> Units:
    found = counts.attacks[0]
    num_members, num_others = int(found.members.sum()), int(found.others.sum())
    pseudo = int(found.pseudo_members.sum())
    if min(num_members, pseudo, num_others - pseudo) < 1:
        raise DataError("expected members, and held-out images in both halves of the placebo")
    return Units(
        one=one,
        many=f"{one}s",
        unit="group" if one == "person" else "record",
        membership=np.arange(num_members + num_others) < num_members,
        placebo=np.arange(num_others) < pseudo,
        blind=_blind(counts.blind, num_members=num_members, plan=plan),
        low_fpr=plan.low_fpr,
    )


def _doubts(counts: PooledCounts) -> tuple[str, ...]:
    """Attacks whose bins hide the order of scores: nothing found says nothing then."""
    doubts = []
    for attack, found in zip(POOLED, counts.attacks, strict=True):
        pairs = int(found.members.sum()) * int(found.others.sum())
        ties = float(found.members @ found.others) / pairs
        if ties > _MOST_TIES:
            doubts.append(
                f"{attack.name}: {ties:.0%} of all pairs of a member and another lie in one bin, "
                "and their order is lost: raise audit.bins in the next plan"
            )
    return tuple(doubts)


def _blind(side: SideCounts, *, num_members: int, plan: AuditPlan) -> BlindBaseline:
    if int(side.members.sum()) != num_members:
        return BlindBaseline(
            auc=None, scores=None, differs=None, reason="not estimable at every site"
        )
    scores, places = expanded(side.members, side.others)
    found = auc(scores, membership=places == 0, confidence=plan.confidence)
    # As for one place: folds share images, which spreads the AUC wider than its interval.
    wide = auc(scores, membership=places == 0, confidence=1 - (1 - plan.confidence) / 5)
    return BlindBaseline(auc=found, scores=None, differs=wide.interval.low > 0.5)


def _scored(
    name: str, setting: str, queries: int, found: AttackCounts, *, seconds: float
) -> Scored:
    scores, _ = expanded(found.members, found.pseudo_members, found.pseudo_others)
    others, _ = expanded(found.pseudo_members, found.pseudo_others)
    nothing = np.empty(0)
    return Scored(
        name=name,
        access=Access.QUERIES,
        setting=setting,
        sign=1,
        chosen_on=FIXED,
        choice_aucs={},
        choice_scores=nothing,
        scores=scores,
        placebo_choice_scores=nothing,
        placebo_scores=others,
        queries_per_record=float(queries),
        seconds=seconds,
    )


def _strata(
    counts: PooledCounts, *, plan: AuditPlan, class_names: tuple[str, ...]
) -> tuple[StratumReport, ...]:
    """Of the classes whose counts were asked for, under the first attack."""
    known = [n for n, side in enumerate(counts.classes) if int(side.members.sum()) >= _FEWEST]
    found = []
    for number in known:
        side = counts.classes[number]
        scores, places = expanded(side.members, side.others)
        area = auc(
            scores,
            membership=places == 0,
            confidence=1 - (1 - plan.confidence) / len(known),
        )
        found.append(
            StratumReport(
                kind="class",
                group=class_names[number],
                num_members=area.num_members,
                num_non_members=area.num_non_members,
                auc=Figure(value=area.value, low=area.interval.low, high=area.interval.high),
                reason=None,
            )
        )
    return tuple(found)


def _game(plan: AuditPlan, pooled: PooledReport) -> tuple[str, ...]:
    one = pooled.unit
    where = "at each site" if pooled.sites_asked > 1 else "at one site"
    return (
        f"Unit: one {one}. A neighbour has one {one} more or less.",
        f"The attacker is shown one of {pooled.num_members} members and {pooled.num_others} "
        f"held-out {one}s of the same sites, as many {where}, and says which it was.",
        "It knows no other image: attacks, settings and directions were fixed before training.",
        "Scores are rounded to the plan's bins; an order within one is lost.",
        f"Intervals treat {one}s as independent, also across sites. Images of one model share its "
        "training: read them as descriptions.",
    )
