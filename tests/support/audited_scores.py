"""Scores, units and a plan of an audit that never ran, for tests of what is made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attacks.statistics.blind import BlindBaseline
from phoenix_secure.audit.attack import Access
from phoenix_secure.audit.figures import attack_reports
from phoenix_secure.audit.plan import AuditPlan, PlannedGroup
from phoenix_secure.audit.report import AuditReport, BlindReport
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.units import Units
from phoenix_secure.audit.verdict import decide


def scored(
    scores: NDArray[np.float64],
    *,
    name: str = "loss",
    sign: int = 1,
    placebo: NDArray[np.float64] | None = None,
) -> Scored:
    """An attack's scores; of the placebo, those of the second half where it has none."""
    none = np.empty(0)
    return Scored(
        name=name,
        access=Access.QUERIES,
        setting="t=1",
        sign=sign,
        chosen_on="others",
        choice_aucs={},
        choice_scores=none,
        scores=scores,
        placebo_choice_scores=none,
        placebo_scores=scores[len(scores) // 2 :] if placebo is None else placebo,
        queries_per_record=1,
        seconds=0,
    )


def units_of(num: int, *, differs: bool | None = False) -> Units:
    """Images, ``num`` of them members and as many not."""
    return Units(
        one="image",
        many="images",
        unit="record",
        membership=np.arange(2 * num) < num,
        placebo=np.arange(num) < num // 2,
        blind=BlindBaseline(auc=None, scores=None, differs=differs),
        low_fpr=0.1,
    )


def plan_of(num: int) -> AuditPlan:
    group = PlannedGroup(num_members=num, num_others=num, sha256="")
    return AuditPlan(
        version="",
        target_kind="",
        target_sha256="",
        profile="smoke",
        seed=0,
        attacks=(),
        fprs=(0.1,),
        low_fpr=0.1,
        confidence=0.95,
        significance=0.05,
        max_detectable_auc=0.6,
        choice=group,
        evaluation=group,
        num_calibration=0,
        num_samples=0,
        num_shadows=0,
        canaries=None,
        claim=None,
    )


def report_of(*attacks: Scored, plan: AuditPlan | None = None, **parts: object) -> AuditReport:
    """The report of an audit of ``attacks``, with other ``parts`` in place of its own."""
    num = len(attacks[0].scores) // 2
    plan = plan_of(num) if plan is None else plan
    reports = attack_reports(attacks, units=units_of(num), plan=plan, also=())
    empty = {
        "edition": "public",
        "verdict": decide(reports, units=units_of(num), canaries=None, plan=plan),
        "game": (),
        "target": {},
        "plan": plan,
        "plan_sha256": plan.sha256,
        "other_plans": 0,
        "choice_source": "",
        "attacks": reports,
        "skipped": {},
        "blind": BlindReport(auc=None, differs=False, reason=None),
        "loss_of_members": None,
        "loss_of_non_members": None,
        "strata": (),
        "exposed": (),
        "copying": None,
        "canaries": None,
        "federated": None,
        "seconds": 1.0,
    }
    return AuditReport.model_validate(empty | parts)
