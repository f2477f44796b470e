"""E: what was tried against the model, what was found, and what was never tried."""

from __future__ import annotations

import math
from typing import Any

from phoenix_secure.audit.report import AttackReport, AuditReport
from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.compliance.facts import AUDIT, Facts
from phoenix_secure.evidence import Event

__all__ = ["answer_attacks", "consistency", "coverage", "recorded_plan", "strongest"]

_NOT_RUN = "no attack of this kind is part of the audit"
# What the three criteria of WP216 (2014) are touched by.
_ROWS = (
    ("membership inference", "singling out"),
    ("extraction and regurgitation of training images", "singling out"),
    ("attribute inference", "inference"),
    ("property inference about a site", "inference"),
    ("model inversion", "linkability"),
    ("reconstruction from the model", "singling out"),
    ("membership from updates (the server's view)", "singling out"),
    ("gradient inversion from updates", "singling out"),
    ("exfiltration of images or keys", "singling out"),
    ("poisoning and backdoors", "integrity"),
)
# When reports were made with this clause map, no audit had an inversion of gradients.
_BEFORE_INVERSION = "2026-11-b"
_DIGITS = 6


def answer_attacks(answers: Answers) -> None:
    """Figures are copied from audit.json; the strongest attack and the matrix follow from it."""
    facts, audit = answers.facts, answers.facts.audit
    evidence = facts.where(AUDIT)
    rows = coverage(facts, names_inversion=answers.clause_map != _BEFORE_INVERSION)
    answers.derived("E3.coverage", rows, evidence=evidence)
    answers.derived("E6.consistency", consistency(facts), evidence=evidence)
    if audit is None:
        for id in ("E1.plan", "E2.game", "E4.verdict", "E4.strongest", "E4.attacks", "E4.blind"):
            answers.missing(id, "audit the run: phoenix-secure audit RUN")
        for id in ("E4.groups", "E4.server_view", "E5.copying", "E7.conditions"):
            answers.missing(id, "audit the run: phoenix-secure audit RUN")
        return
    answers.measured(
        "E1.plan",
        {
            "sha256": audit.plan_sha256,
            "other_plans_in_this_folder": audit.other_plans,
            "profile": audit.plan.profile,
            "fprs": list(audit.plan.fprs),
            "significance": audit.plan.significance,
            **recorded_plan(facts, audit),
        },
        note="fixed before the first score was computed; terms: attacks, seed, thresholds and "
        "significance, without the model's own digest and the groups of images",
        evidence=(
            *facts.where(AUDIT, "/plan"),
            *(each for entry in facts.ledger.of(Event.AUDIT_PLANNED) for each in facts.at(entry)),
        ),
    )
    answers.measured("E2.game", list(audit.game), evidence=facts.where(AUDIT, "/game"))
    verdict = audit.verdict
    answers.measured(
        "E4.verdict",
        {
            "outcome": verdict.outcome.value,
            "fail": verdict.fail,
            "reasons": list(verdict.reasons),
            "detectable_auc": verdict.detectable_auc,
            "detectable_tpr": verdict.detectable_tpr,
            "false_alarm": verdict.false_alarm,
        },
        note="no attack proves the absence of a leak; a better one may find more",
        evidence=facts.where(AUDIT, "/verdict"),
    )
    _answer_figures(answers, audit)
    _answer_rest(answers, audit)


def recorded_plan(facts: Facts, audit: AuditReport) -> dict[str, Any]:
    """The times at which the audit's terms and its plan were fixed, from the ledger."""
    planned = facts.ledger.of(Event.AUDIT_PLANNED)
    terms = [each for each in planned if each.facts.get("stage") == "terms"]
    plans = [each for each in planned if each.facts.get("stage") == "plan"]
    own = [each for each in plans if each.facts.get("sha256") == audit.plan_sha256]
    first_round = min(
        (each.index for each in facts.ledger.of(Event.ROUND_STARTED)), default=math.inf
    )
    if not terms or terms[0].index > first_round:
        before = "not fixed before training"
    elif audit.plan.keeps(_dict(terms[0].facts.get("terms")), skipped=audit.skipped):
        before = "fixed before training, and kept"
    else:
        before = "fixed before training, and not kept by this audit"
    return {
        "terms": before,
        "plan_in_the_ledger": bool(own),
        "plans_in_the_ledger": len({each.facts.get("sha256") for each in plans}),
    }


def strongest(audit: AuditReport) -> AttackReport | None:
    """The attack with the smallest adjusted p, then the largest AUC; on persons where the audit has
    them."""
    usable = [each for each in audit.deciding if each.placebo_inside] or list(audit.deciding)
    return min(usable, key=lambda each: (each.p_adjusted, -each.auc.value)) if usable else None


def coverage(facts: Facts, *, names_inversion: bool) -> list[dict[str, str]]:
    """Fixed rows: executed, not run, or not applicable, and why."""
    audit = facts.audit
    executed: dict[str, str] = {}
    if audit is not None and audit.attacks:
        executed[_ROWS[0][0]] = ", ".join(each.name for each in audit.attacks)
    if audit is not None and audit.copying is not None:
        executed[_ROWS[1][0]] = f"{audit.copying.num_samples} samples screened for copies"
    if audit is not None and audit.extraction is not None:
        found_in = audit.extraction
        executed[_ROWS[1][0]] = f"generate and filter over {found_in.num_samples} samples"
    if audit is not None and audit.inversion is not None:
        executed[_ROWS[7][0]] = ", ".join(row.view for row in audit.inversion.rows)
    if audit is not None and audit.federated is not None:
        executed[_ROWS[6][0]] = ", ".join(sorted({row.view for row in audit.federated.rows}))
    reasons = {_ROWS[0][0]: "audit the run", _ROWS[1][0]: "audit the run"}
    reasons[_ROWS[6][0]] = "audit the run with --federated"
    if names_inversion:
        reasons[_ROWS[7][0]] = "audit the run with --attack gradient-inversion"
    found = []
    for name, criterion in _ROWS:
        state = "executed" if name in executed else "not run"
        why = executed.get(name) or reasons.get(name, _NOT_RUN)
        if name == "attribute inference" and not facts.settings.get("model", {}).get(
            "class_conditional"
        ):
            state, why = "not applicable", "the model knows no labels or attributes"
        found.append({"attack": name, "criterion": criterion, "state": state, "detail": why})
    return found


def consistency(facts: Facts) -> dict[str, Any]:
    """The audit's lower bound on epsilon against the claim.

    A lower bound at delta_a contradicts an (epsilon, delta) claim where delta_a >= delta: what is
    (epsilon, delta)-private is (epsilon, delta_a)-private.
    """
    guarantee, audit = facts.guarantee, facts.audit
    claimed = guarantee.get("epsilon")
    canaries = None if audit is None else audit.canaries
    found: dict[str, Any] = {
        "epsilon_claimed": claimed,
        "delta_claimed": guarantee.get("delta"),
        "unit": guarantee.get("unit", "none"),
        "epsilon_lower": None if canaries is None else round(canaries.epsilon_steinke, _DIGITS),
        "delta_lower": None if canaries is None else canaries.delta,
    }
    if claimed is None:
        answer = "no claim to contradict"
    elif canaries is None:
        answer = "no lower bound: train with audit.canaries"
    elif guarantee.get("unit") not in ("record", "group"):  # a canary is a person of its own
        answer = "not comparable: canaries are images, the claim is for whole sites"
    elif canaries.delta < guarantee["delta"]:
        answer = "not comparable: the lower bound is at a smaller delta"
    elif canaries.epsilon_steinke > claimed:
        answer = "contradicted"
    elif canaries.ceiling_steinke <= claimed:
        answer = "not contradicted, and no outcome of this test could have"
    else:
        answer = "not contradicted"
    return {**found, "answer": answer}


def _answer_figures(answers: Answers, audit: AuditReport) -> None:
    facts, best = answers.facts, strongest(audit)
    if best is None:
        answers.missing("E4.strongest", "no attack ran")
    else:
        row = {**_row(best), "curve": [list(point) for point in best.curve]}
        where = "/attacks" if audit.persons is None else "/persons/attacks"
        answers.derived("E4.strongest", row, evidence=facts.where(AUDIT, where))
    answers.measured(
        "E4.attacks",
        [_row(each) for each in audit.attacks],
        unit=f"intervals at {audit.plan.confidence:.0%}",
        evidence=facts.where(AUDIT, "/attacks"),
    )
    answers.measured(
        "E4.blind",
        {
            "differs": audit.blind.differs,
            "auc": None if audit.blind.auc is None else audit.blind.auc.model_dump(mode="json"),
            "reason": audit.blind.reason,
        },
        evidence=facts.where(AUDIT, "/blind"),
    )
    if facts.is_confidential:
        answers.measured(
            "E4.groups",
            [each.model_dump(mode="json") for each in audit.strata],
            evidence=facts.where(AUDIT, "/strata"),
        )
    else:
        answers.missing("E4.groups", "figures of small groups: in the confidential edition")


def _answer_rest(answers: Answers, audit: AuditReport) -> None:
    facts = answers.facts
    if audit.federated is None:
        answers.missing("E4.server_view", "audit the run with --federated")
    else:
        answers.measured(
            "E4.server_view",
            [row.model_dump(mode="json") for row in audit.federated.rows],
            evidence=facts.where(AUDIT, "/federated"),
        )
    if audit.copying is None:
        answers.missing("E5.copying", "too few images or no samples were screened")
    else:
        answers.measured(
            "E5.copying",
            audit.copying.model_dump(mode="json"),
            note="nearest images by distance in pixels; an image changed by hand is not found",
            evidence=facts.where(AUDIT, "/copying"),
        )
    digest = facts.files.sha256(AUDIT)
    entries = facts.ledger.of(Event.AUDITED)
    audited = next((each for each in entries if each.facts.get("sha256") == digest), None)
    answers.measured(
        "E7.conditions",
        {
            "software": f"phoenix-secure {audit.plan.version}",
            "members": audit.num_images[0],
            "non_members": audit.num_images[1],
            "seconds": round(audit.seconds, 1),
            "time": None if audited is None else audited.time,
            "in_the_ledger": audited is not None,
            **_pool(audit),
        },
        note=None
        if audited is not None
        else "the audit was made where the server's key is not: its time is not in the ledger",
        evidence=(*facts.where(AUDIT), *facts.at(audited)),
    )


def _pool(audit: AuditReport) -> dict[str, Any]:
    """Who is behind pooled figures; nothing for an audit in one place."""
    pooled = audit.pooled
    if pooled is None:
        return {}
    return {
        "where": "at every site with its own images; pooled histograms through a secure sum",
        "sites_asked": pooled.sites_asked,
        "sites_answered": pooled.sites_answered,
        "sites_with_images_enough": pooled.sites_entered,
        "noise": pooled.noise,
    }


def _row(attack: AttackReport) -> dict[str, Any]:
    return {
        "name": attack.name,
        "access": attack.access,
        "auc": attack.auc.model_dump(mode="json"),
        "tpr": [
            {
                "fpr": each.fpr,
                "tpr": None if each.tpr is None else each.tpr.model_dump(mode="json"),
                "reason": each.reason,
            }
            for each in attack.tpr
        ],
        "p_adjusted": attack.p_adjusted,
        "placebo_inside": attack.placebo_inside,
        "above_ceiling": attack.above_ceiling,
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
