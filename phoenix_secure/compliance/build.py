"""Builds a report from a run's folder: a pure function, so that anybody with the folder can repeat
it and compare byte for byte.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phoenix_secure import __version__
from phoenix_secure.compliance.accountant import RELATIVE, TOLERANCE
from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.compliance.clause_map import load_clause_map
from phoenix_secure.compliance.facts import load_facts
from phoenix_secure.compliance.run_files import RunFiles
from phoenix_secure.compliance.schema import (
    AnnexSection,
    Edition,
    Headline,
    Kind,
    Profile,
    Report,
    ReportField,
    Tool,
)
from phoenix_secure.compliance.sections.attacks import answer_attacks
from phoenix_secure.compliance.sections.conclusion import answer_conclusion
from phoenix_secure.compliance.sections.identity import answer_identity
from phoenix_secure.compliance.sections.images import answer_images
from phoenix_secure.compliance.sections.privacy import answer_privacy
from phoenix_secure.compliance.sections.trust import answer_trust
from phoenix_secure.evidence.canonical import canonical

__all__ = [
    "DEFAULT_PROFILES",
    "annexed",
    "build_report",
    "failures_in",
    "headline_of",
    "report_id",
]

DEFAULT_PROFILES: tuple[Profile, ...] = (Profile.EDPB, Profile.DPIA, Profile.NIST_226)


def build_report(
    run: Path,
    *,
    edition: Edition = Edition.PUBLIC,
    profiles: Sequence[Profile] = DEFAULT_PROFILES,
    ledger_entries: int | None = None,
    clause_map: str | None = None,
) -> Report:
    """The report of the run in the folder ``run``.

    ledger_entries   use so many entries of the ledger: what it was when a report was made
    clause_map       version of the map that decides on fields and gaps; today's by default

    Guarantee:  the same folder, edition, profiles and version give the same bytes.
    Raises:     EvidenceError when a file is missing, damaged, or not the one the ledger names;
                ConfigError for a governance.yaml that does not hold; KeyError for an unknown
                clause map.
    """
    facts = load_facts(RunFiles(run, ledger_entries=ledger_entries), edition=edition)
    clauses = load_clause_map(clause_map)
    chosen = tuple(each for each in Profile if each in profiles)
    answers = Answers(facts, clauses=clauses, profiles=chosen)
    for answer in (
        answer_identity,
        answer_images,
        answer_privacy,
        answer_trust,
        answer_attacks,
        answer_conclusion,
    ):
        answer(answers)
    fields = answers.fields
    return Report(
        id=report_id(edition, chosen, fields),
        edition=edition,
        profiles=chosen,
        tool=Tool(version=__version__),
        evidence_until=facts.ledger.entries[-1].time,
        clause_map=clauses.version,
        headline=headline_of(fields),
        fields=fields,
    )


def failures_in(fields: Sequence[ReportField]) -> tuple[str, ...]:
    """Contradictions between fields: each makes the report a FAIL."""
    by_id = {each.id: each for each in fields}
    found = []
    verdict = by_id["E4.verdict"].value
    if verdict is not None and verdict["fail"]:
        found.append("the audit contradicts a claimed guarantee: " + "; ".join(verdict["reasons"]))
    bounds = by_id["E6.consistency"].value
    if bounds["answer"] == "contradicted":
        found.append(
            f"epsilon {bounds['epsilon_claimed']:.4g} is claimed, and the audit shows at least "
            f"{bounds['epsilon_lower']:.4g}: the claim is false, or the software is wrong"
        )
    claimed, again = by_id["C2.epsilon"].value, by_id["C2.recomputed"].value
    if claimed is not None and again is None:
        found.append("an epsilon is claimed, and the ledger charges no event that would spend it")
    if claimed is not None and again is not None and _exceeds(again, claimed):
        found.append(
            f"epsilon {claimed:.4g} is claimed, and the ledger's events spend {again:.4g} by the "
            "second accountant"
        )
    replaced = (by_id["C1.mechanism"].value or {}).get("replace_one")
    if replaced and _exceeds(replaced["recomputed"], replaced["epsilon"]):
        found.append(
            f"epsilon {replaced['epsilon']:.4g} is claimed where a record is replaced, and the "
            f"ledger's events spend {replaced['recomputed']:.4g} by the second accountant"
        )
    unit = by_id["B3.unit"].value
    planned = unit["unit by the ledger's settings"]
    if claimed is not None and unit["unit"] != planned:
        found.append(
            f"a guarantee per {unit['unit']} is claimed, and the ledger's settings name {planned}"
        )
    per_site = by_id["C2.per_site"].value or {}
    most = max(per_site.values(), default=0.0)
    if claimed is not None and _exceeds(most, claimed):
        found.append(f"a site spent epsilon {most:.4g}, above the claimed {claimed:.4g}")
    return tuple(found)


def _exceeds(found: float, claimed: float) -> bool:
    return found > claimed + TOLERANCE + RELATIVE * claimed


def annexed(report: Report, annex: Sequence[AnnexSection]) -> Report:
    """``report`` with these sections for its annex."""
    annex = tuple(annex)
    id = report_id(report.edition, report.profiles, report.fields, annex)
    return report.model_copy(update={"annex": annex, "id": id})


def report_id(
    edition: Edition,
    profiles: tuple[Profile, ...],
    fields: tuple[ReportField, ...],
    annex: tuple[AnnexSection, ...] = (),
) -> str:
    """Follows from what the report says, so that two builds have the same."""
    content: list[Any] = [edition, list(profiles)]
    content += [[each.model_dump(mode="json") for each in part] for part in (fields, annex) if part]
    return hashlib.sha256(canonical(content)).hexdigest()[:32]


def headline_of(fields: tuple[ReportField, ...]) -> Headline:
    """The first lines follow from the fields alone."""
    by_id = {each.id: each.value for each in fields}
    parameters, rounds = by_id["A2.num_parameters"], len(by_id["H1.timeline"])
    what = f"A diffusion model of {parameters or 0:,} parameters, trained in {rounds} rounds"
    if "release" in (by_id["A2.architecture"] or {}):
        network = by_id["A2.architecture"]["network"]
        what = f"{network[:1].upper()}{network[1:]} of {parameters or 0:,} numbers, made"
    failures = failures_in(fields)
    gaps = [each for each in fields if each.kind is Kind.MISSING and each.clauses]
    names = ", ".join(each.title.lower() for each in gaps[:4])
    return Headline(
        trained=f"{what} by {by_id['B1.num_sites']} sites on images of {by_id['B1.data_set']}.",
        guarantee=_guarantee(by_id, is_contradicted=bool(failures)),
        strongest_attack=_strongest(by_id["E4.strongest"], by_id["E4.verdict"]),
        missing="Nothing that the chosen profiles ask for."
        if not gaps
        else f"{len(gaps)} answers that the chosen profiles ask for, among them {names}.",
        failures=failures,
    )


def _guarantee(by_id: dict[str, Any], *, is_contradicted: bool) -> str:
    """The statement, and the same for whoever knows nothing of epsilon: Bayes from even odds."""
    statement = f"{_capital(str(by_id['C5.statement']))}."
    epsilon, delta = by_id["C2.epsilon"], by_id["C2.delta"]
    if epsilon is None:
        return statement
    if is_contradicted:
        return f"Claimed, and contradicted by the evidence: {statement}"
    who = {
        "record": "one image was",
        "group": "all images of one person were",
        "site": "one site's images were",
    }[by_id["B3.unit"]["unit"]]
    sure = 100 / (1 + math.exp(-epsilon))
    return (
        f"Whoever thinks it even odds that {who} used can become at most {sure:.4g} % sure of it "
        f"from the model, but for a chance of {delta:g}: {statement}"
    )


def _strongest(best: dict[str, object] | None, verdict: dict[str, object] | None) -> str:
    if best is None or verdict is None:
        return "No attack was tried: nothing is known about what the model gives away."
    auc = best["auc"]
    assert isinstance(auc, dict)  # built in sections.attacks  # noqa: S101
    return (
        f"{_capital(str(verdict['outcome']))}. The strongest attack, {best['name']} "
        f"({best['access']}), tells members from non-members with AUC {auc['value']:.3f} "
        f"[{auc['low']:.3f}, {auc['high']:.3f}]; 0.5 is guessing."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
