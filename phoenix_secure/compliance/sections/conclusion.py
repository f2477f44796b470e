"""F, G and H: quality, what people must still say, and the evidence itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.compliance.facts import AUDIT, Facts
from phoenix_secure.compliance.frontier import SWEEP, parse_frontier
from phoenix_secure.compliance.run_files import LEDGER
from phoenix_secure.compliance.sections.images import num_images
from phoenix_secure.evidence import Event

__all__ = ["answer_conclusion", "timeline", "witnesses"]

_LIMITS = [
    "Passing known attacks is evidence of resistance to those attacks and to no others.",
    "An average over images says little about the most exposed one.",
    "Declared facts are printed as they were declared; nothing here checks them.",
    "The report covers the files it names; other copies, checkpoints and samples are outside it.",
    "It takes no decision: whether the residual risk is acceptable is for people to say.",
]
_TRIGGERS = [
    "new or other images, or a person's withdrawal",
    "a new attack that this audit did not try",
    "another release context than the declared one",
    "a signing key that may be known to others",
]


def answer_conclusion(answers: Answers) -> None:
    """Everything after the attacks."""
    _answer_quality(answers)
    _answer_statements(answers)
    _answer_evidence(answers)


def _answer_quality(answers: Answers) -> None:
    facts = answers.facts
    if facts.quality:
        answers.measured(
            "F1.quality",
            {
                "extractor": facts.quality.get("extractor"),
                "num_images": facts.quality.get("num_images"),
                "rows": facts.quality.get("rows"),
            },
            note="computed against real images without noise: outside any guarantee. Lower KID and "
            "FD are better; held-out real images show the best to hope for",
            evidence=facts.where("evaluation.json"),
        )
    elif facts.audit is not None and (pooled := facts.audit.pooled) and pooled.frechet is not None:
        answers.measured(
            "F1.quality",
            {
                "extractor": pooled.frechet_name,
                "num_images": pooled.frechet_samples,
                "rows": {
                    "generated": {
                        "frechet": pooled.frechet,
                        "num_generated": pooled.frechet_samples,
                        "num_reference": pooled.frechet_held_out,
                    }
                },
            },
            note="against the held-out images of all sites, from sums of features without noise: "
            "outside any guarantee, and to be compared with distances of this name alone",
            evidence=facts.where(AUDIT, "/pooled"),
        )
    else:
        answers.missing("F1.quality", "phoenix-secure evaluate, or evaluation.num_images above 0")
    answers.missing("F2.groups", "quality by class or site is not measured")
    answers.declared("F3.trade_off", "/assessment/trade_off")
    if facts.files.has(SWEEP):
        name = str(facts.files.root / SWEEP)
        answers.handed_in(
            "F3.frontier",
            parse_frontier(facts.files.content(SWEEP), name=name, with_names=facts.is_confidential),
            note="handed in with the report: runs of their own, which this ledger does not cover",
            evidence=facts.where(SWEEP, "/points"),
        )
    else:
        answers.missing("F3.frontier", "report the run with --sweep, after `phoenix-secure sweep`")
    count, checkpoint = num_images(facts), facts.last(Event.CHECKPOINT)
    parameters = None if checkpoint is None else checkpoint.facts.get("num_parameters")
    if count and parameters:
        ratio = count / parameters
        answers.derived(
            "F4.ratio",
            float(f"{ratio:.3g}") if facts.is_confidential else float(f"{ratio:.0e}"),
            unit="images per parameter",
            note="fewer images per parameter: more can be memorised",
            evidence=facts.at(checkpoint),
        )
    else:
        answers.missing("F4.ratio", "the number of images did not leave the sites")
    seconds = [each.facts.get("seconds", 0.0) for each in facts.ledger.of(Event.CHECKPOINT)]
    answers.measured(
        "F5.compute",
        {
            "rounds": len(seconds),
            "training_seconds": round(sum(seconds), 3),
            "bytes_up": facts.summary.bytes_up,
            "bytes_down": facts.summary.bytes_down,
        },
        evidence=facts.at(checkpoint),
    )
    answers.declared("F5.energy", "/assessment/energy")
    _answer_marks(answers)


def _answer_marks(answers: Answers) -> None:
    """Nothing where the ledger is older than marks."""
    facts = answers.facts
    marked = facts.last(Event.MARKED)
    if marked is None:
        return
    certificates = marked.facts.get("certificates_sha256")
    reason = facts.settings.get("output", {}).get("unmarked_reason")
    answers.measured(
        "F6.marks",
        {
            "marked": certificates is not None,
            "reason": reason,
            "picture_sha256": marked.facts.get("sha256"),
            "certificates_sha256": certificates,
        },
        note="IPTC's source type in every picture that is written, and content credentials (C2PA) "
        "where the extra marks is installed; both are lost where a picture is saved again. "
        "Check with `phoenix-secure marks check`",
        evidence=facts.at(marked),
    )


def _answer_statements(answers: Answers) -> None:
    answers.derived("G1.limits", _LIMITS)
    answers.declared("G1.residual_risks", "/assessment/residual_risks")
    answers.declared("G2.measures", "/assessment/measures")
    for name in (
        "impact_assessment",
        "dpo_advice",
        "subjects_views",
        "prior_consultation",
        "expert",
    ):
        answers.declared(f"G3.{name}", f"/assessment/{name}")
    own = answers.facts.governance.said("/assessment/review_triggers") or []
    answers.derived("G4.review_triggers", [*_TRIGGERS, *own])
    answers.declared("G4.review_due", "/assessment/review_due")
    answers.declared("G5.deployers", "/assessment/deployers")
    for name in ("erasure", "objection"):
        answers.declared(f"G6.{name}", f"/assessment/{name}")


def _answer_evidence(answers: Answers) -> None:
    facts = answers.facts
    head = facts.ledger.head
    # A ledger of version 0.1.0 names no run.
    scope = {} if head.scope is None else {"federation": head.scope.federation}
    scope |= {} if head.scope is None else {"plan": head.scope.plan}
    answers.measured(
        "H1.ledger",
        {
            **scope,
            "id": head.ledger,
            "entries": head.size,
            "root": head.root,
            "first": facts.ledger.entries[0].time,
            "last": facts.ledger.entries[-1].time,
            "signed_by": facts.ledger.server_key.hex(),
            "events": dict(sorted(Counter(each.event for each in facts.ledger.entries).items())),
        },
        evidence=facts.where(LEDGER),
    )
    found = witnesses(facts)
    if found is None:
        answers.missing("H1.witnesses", "no site was shown the ledger")
    else:
        answers.measured("H1.witnesses", found, evidence=facts.at(facts.last(Event.WITNESSED)))
    answers.measured("H1.timeline", timeline(facts), evidence=facts.where(LEDGER))
    answers.derived(
        "H2.verify",
        [
            "phoenix-secure verify report.json --roster roster.bin --owner-key KEY",
            "phoenix-secure verify report.json --roster roster.bin --owner-key KEY --evidence RUN",
        ],
        note="KEY is the owner's public key, from the owner and not with this report; roster.bin "
        "is the list of sites that the owner signed",
    )


def witnesses(facts: Facts) -> dict[str, Any] | None:
    """The reach of the newest head that sites signed, and the number of signatures."""
    entry = facts.last(Event.WITNESSED)
    if entry is None:
        return None
    signed, missing = entry.facts.get("signatures", {}), entry.facts.get("missing", {})
    found: dict[str, Any] = {
        "covered_entries": entry.facts["head"]["size"],
        "entries": facts.ledger.head.size,
        "signed": len(signed),
        "did_not_sign": len(missing),
    }
    if facts.is_confidential:
        found |= {"sites": sorted(signed), "missing": missing}
    return found


def timeline(facts: Facts) -> list[dict[str, Any]]:
    """Round by round: who was asked, who was in the sum, failures; by name only in confidence."""
    rounds: dict[int, dict[str, Any]] = {}
    for entry in facts.ledger.entries:
        number = entry.facts.get("round")
        if not isinstance(number, int):
            continue
        row = rounds.setdefault(
            number, {"round": number, "asked": [], "in_sum": [], "failures": 0, "resumed": False}
        )
        if entry.event == Event.ROUND_STARTED:
            row |= {"started": entry.time, "asked": list(entry.facts["cohort"])}
        elif entry.event == Event.AGGREGATED:
            row |= {"ended": entry.time, "in_sum": list(entry.facts["sites"])}
        elif entry.event == Event.FAILED:
            row["failures"] += 1
        elif entry.event == Event.RESUMED:
            row["resumed"] = True
    found = []
    for _, row in sorted(rounds.items()):
        if "started" in row:
            names = ("asked", "in_sum")
            plain = {} if facts.is_confidential else {name: len(row[name]) for name in names}
            found.append(row | plain)
    return found
