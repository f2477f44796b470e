"""The first pages of a report, for who decides: what stands in its fields, in plain words.

Nothing here is a value of its own: every line follows from fields, which ``verify`` computes again.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from phoenix_secure.compliance.declared import GOVERNANCE
from phoenix_secure.compliance.schema import Report, ReportField

__all__ = [
    "Cell",
    "Decision",
    "Figure",
    "Measure",
    "Risk",
    "decisions",
    "figures",
    "label",
    "measures",
    "open_questions",
    "risks",
    "sentences",
]

_CONTROLLER, _DPO = "controller", "data-protection officer"
_SECURITY, _STEWARD = "IT security", "whoever keeps the images at each site"
# Who can answer what a person must say; the first letters of a field's id, the longest that fits.
_WHO = {
    "A": _CONTROLLER,
    "B": _STEWARD,
    "B1.legal_basis": _DPO,
    "B1.research_safeguards": _DPO,
    "B1.special_basis": _DPO,
    "B1.transfers": _DPO,
    "D": _SECURITY,
    "F": _CONTROLLER,
    "G": _DPO,
    "G2": _CONTROLLER,
    "G3.expert": "an independent expert",
    "G3.subjects_views": _CONTROLLER,
    "G5": _CONTROLLER,
}
_TELLING = 0.5  # a ceiling above which nearly everybody might be found
_YOURS, _TECHNICAL, _OFF = "yours", "technical", "because privacy is off"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of the strip on top; ``tone`` is good, bad or empty."""

    title: str
    text: str
    tone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure as a laboratory prints it."""

    name: str
    result: str
    reference: str
    comment: str
    field: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Risk:
    """A scenario; ``fields`` hold the evidence."""

    scenario: str
    likelihood: str
    severity: str
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A measure that was taken, or was not."""

    name: str
    state: str
    field: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Open questions that one party can answer."""

    who: str
    fields: tuple[ReportField, ...]


def open_questions(report: Report) -> Counter[str]:
    """Gaps by who can close them: people, whoever runs the software, or privacy itself."""
    return Counter(_kind(report, each) for each in report.gaps)


def label(report: Report) -> list[Cell]:
    """What is proven, tried, found and open, in a line each."""
    epsilon, unit = report.value("C2.epsilon"), _unit(report)
    if report.headline.failures:
        proven = Cell(title="Proven", text="contradicted by the evidence", tone="bad")
    elif epsilon is None:
        proven = Cell(title="Proven", text="nothing", tone="bad")
    else:
        tone = "bad" if epsilon >= 10 else "good" if epsilon < 1 else ""
        proven = Cell(title="Proven", text=f"epsilon {epsilon:.3g} for each {unit}", tone=tone)
    rows = report.value("E3.coverage")
    done = sum(row["state"] == "executed" for row in rows)
    counts = open_questions(report)
    return [
        proven,
        Cell(title="Attacks run", text=f"{done} of {len(rows)} kinds", tone="" if done else "bad"),
        _largest(report),
        Cell(
            title="Open",
            text=", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing",
            tone="" if counts else "good",
        ),
    ]


def sentences(report: Report) -> list[str]:
    """The same without jargon, for who reads nothing else."""
    epsilon = report.value("C2.epsilon")
    unit = _unit(report)
    return [
        report.headline.trained,
        "No proof limits what the model may give away about a training image."
        if epsilon is None
        else "The evidence contradicts the limit that was promised: do not rely on it."
        if report.headline.failures
        else f"A proof limits what taking part gives away of one {unit}: {_strength(epsilon)}.",
        _found(report),
        f"{len(report.gaps)} questions have no answer yet; the report says who can give it."
        if report.gaps
        else "Every question asked has an answer; nobody checked the declared ones.",
    ]


def figures(report: Report) -> list[Figure]:
    """The figures that decide: result, reference range, comment."""
    found = []
    epsilon = report.value("C2.epsilon")
    if epsilon is not None:
        found.append(
            Figure(
                name=f"epsilon, {report.field('C2.epsilon').unit}",
                result=f"{epsilon:.4g}",
                reference="below 1: strong; 10 and more: may mean nothing",
                comment=report.field("C2.epsilon").note or "",
                field="C2.epsilon",
            )
        )
    strongest, verdict = report.value("E4.strongest"), report.value("E4.verdict")
    if strongest is not None:
        auc = strongest["auc"]
        seen = verdict and verdict["detectable_auc"]
        found.append(
            Figure(
                name=f"AUC of the strongest attack, {strongest['name']}",
                result=f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
                reference="0.5: guessing; 1: always right",
                comment="an AUC below "
                + (f"{seen:.3f} would have stayed unseen" if seen else "an unknown bound")
                + (f"; verdict: {verdict['outcome']}" if verdict else ""),
                field="E4.strongest",
            )
        )
    copying = report.value("E5.copying")
    if copying is not None:
        found.append(
            Figure(
                name="samples as near to a training image as a copy",
                result=f"{copying['extracted']} of {copying['num_samples']:,}",
                reference=f"{copying['extracted_control']} as near to an image never trained on",
                comment="more than the reference: look at each"
                if copying["extracted"] > copying["extracted_control"]
                else "no more than the reference: as by chance",
                field="E5.copying",
            )
        )
    rows = (report.value("F1.quality") or {}).get("rows") or {}
    kid = {name: row.get("kid") for name, row in rows.items()}
    if kid.get("generated") is not None:
        reference = [f"{name} {each:.3g}" for name, each in kid.items() if name != "generated"]
        found.append(
            Figure(
                name="KID of the samples (distance from real images)",
                result=f"{kid['generated']:.3g}",
                reference="; ".join(part for part in reference if not part.endswith(" None")),
                comment="lower is better",
                field="F1.quality",
            )
        )
    return found


def risks(report: Report) -> list[Risk]:
    """What can go wrong for a person, how likely it is by the evidence, and how bad."""
    special = report.value("B1.special_categories")
    severity = {
        True: "high: special categories of data are declared",
        False: "no special categories are declared; yours to say",
    }.get(special, "yours to say: nobody declared whose data these are")
    secured = _secured(report)
    is_proven = report.value("C2.epsilon") is not None and not report.headline.failures
    copying = report.value("E5.copying")
    return [
        Risk(
            scenario="Somebody with the model finds out that a person's image was in the training",
            likelihood=_recognised(report),
            severity=severity,
            fields=("C2.epsilon", "C4.ceilings", "E4.verdict"),
        ),
        Risk(
            scenario="The model returns a training image, or a part of it",
            likelihood=_copied(copying),
            severity=severity,
            fields=("E5.copying",),
        ),
        Risk(
            scenario="The server learns what one site's images did to the model",
            likelihood="prevented, as long as those who must be trusted are honest"
            if secured
            else "certain: it sees each site's contribution by itself",
            severity="limited by the proof" if is_proven else severity,
            fields=("D2.secure_aggregation", "D1.trusted"),
        ),
        Risk(
            scenario="A site spoils the model, or plants a pattern in it",
            likelihood="not tested",
            severity="of use, not of privacy",
            fields=("E3.coverage",),
        ),
        Risk(
            scenario="Somebody changes the record of this run afterwards",
            likelihood="would be seen: sites signed its head"
            if report.value("H1.witnesses")
            else "would be seen by who kept a copy; no site signed the record",
            severity="of accountability",
            fields=("H1.ledger", "H1.witnesses"),
        ),
    ]


def measures(report: Report) -> list[Measure]:
    """Technical and organisational measures, and whether they were taken."""
    epsilon = report.value("C2.epsilon")
    audit = report.value("E4.verdict")
    marks = report.value("F6.marks")
    rows = [
        ("Differential privacy", "on" if epsilon is not None else "off", "C1.mechanism"),
        ("Secure aggregation", "on" if _secured(report) else "off", "D2.secure_aggregation"),
        ("Attacks on the finished model", "made" if audit else "not made", "E4.verdict"),
        (
            "Record of the run, signed by its sites",
            "yes" if report.value("H1.witnesses") else "by the server alone",
            "H1.witnesses",
        ),
        ("List of software components", "written (bom.cdx.json)", "D5.components"),
    ]
    known = report.value("D5.known_vulnerabilities")
    looked_up = "not looked up (report --vulnerabilities)"
    if known is not None:
        looked_up = f"{len(known['affected'])} found, by a list of {known['list']['newest_record']}"
    rows.append(("Known vulnerabilities of components", looked_up, "D5.components"))
    if marks is not None:
        rows.append(("Marks on synthetic images", "on" if marks["marked"] else "off", "F6.marks"))
    for id, name in (
        ("D4.access_control", "Access control"),
        ("D3.key_handling", "Keeping of keys"),
        ("B1.retention", "Retention"),
    ):
        rows.append((name, _told(report.value(id)), id))
    return [Measure(name=name, state=state, field=field) for name, state, field in rows]


def decisions(report: Report) -> list[Decision]:
    """What people have to say, by who can say it."""
    found: dict[str, list[ReportField]] = {}
    for each in report.gaps:
        if _kind(report, each) == _YOURS:
            found.setdefault(_who(each.id), []).append(each)
    return [Decision(who=who, fields=tuple(fields)) for who, fields in sorted(found.items())]


def _kind(report: Report, gap: ReportField) -> str:
    if (gap.note or "").endswith(f"in {GOVERNANCE}"):
        return _YOURS
    needs_privacy = gap.id.startswith("C") and report.value("C2.epsilon") is None
    return _OFF if needs_privacy else _TECHNICAL


def _who(id: str) -> str:
    return _WHO[max((start for start in _WHO if id.startswith(start)), key=len)]


def _told(value: Any) -> str:
    return "declared" if value is not None else "nobody said"


def _unit(report: Report) -> str:
    unit = (report.value("B3.unit") or {}).get("unit")
    return {"group": "person", "site": "site"}.get(str(unit), "image")


def _secured(report: Report) -> bool:
    found = report.value("D2.secure_aggregation")
    return isinstance(found, dict) and found.get("mode") != "off"


def _strength(epsilon: float) -> str:
    """In a reader's words: from even odds to how sure, by Bayes."""
    sure = f"who was at even odds becomes at most {100 / (1 + math.exp(-epsilon)):.4g} % sure"
    if epsilon < 1:
        return f"the limit is strong ({sure})"
    how = "the proof alone rules out little" if epsilon < 10 else "it rules out next to nothing"
    return f"{how} ({sure})"


def _largest(report: Report) -> Cell:
    verdict, strongest = report.value("E4.verdict"), report.value("E4.strongest")
    if verdict is None or strongest is None:
        return Cell(title="Largest leak found", text="nobody looked", tone="bad")
    seen = verdict["detectable_auc"]
    would = f"; would have seen AUC ≥ {seen:.3f}" if seen is not None else ""
    if verdict["outcome"] == "leak found":
        return Cell(
            title="Largest leak found", text=f"AUC {strongest['auc']['value']:.3f}", tone="bad"
        )
    text = "none" if verdict["outcome"] != "inconclusive" else "inconclusive"
    return Cell(title="Largest leak found", text=text + would, tone="bad" if text != "none" else "")


def _found(report: Report) -> str:
    verdict, attacks = report.value("E4.verdict"), report.value("E4.attacks") or []
    if verdict is None:
        return "Nobody tried to recognise training images: what the model gives away is not known."
    rows = report.value("E3.coverage")
    others = sum(row["state"] != "executed" for row in rows)
    ways = (
        f"{len(attacks)} {'way' if len(attacks) == 1 else 'ways'} of recognising a training image"
    )
    outcome = {
        "leak found": f"At least one of {ways} did better than guessing.",
        "inconclusive": f"{ways} were tried, on too few images to say anything.",
    }.get(verdict["outcome"], f"{ways} did no better than guessing.")
    return f"{outcome} {others} other kinds of attack were not tested or do not apply."


def _copied(copying: dict[str, Any] | None) -> str:
    if copying is None:
        return "not tested"
    near, by_chance = copying["extracted"], copying["extracted_control"]
    if near > by_chance:
        return f"likely: {near} samples are as near as copies; {by_chance} would be by chance"
    return (
        f"not seen among {copying['num_samples']:,} samples: no nearer to training images than to "
        "others"
    )


def _recognised(report: Report) -> str:
    verdict = report.value("E4.verdict")
    if verdict is not None and verdict["outcome"] == "leak found":
        return "found: an attack does better than guessing"
    ceilings = report.value("C4.ceilings")
    if ceilings and not report.headline.failures:
        most = ceilings["0.01"]
        bound = (
            f"at most {most:.3%} of those who took part, where 1 % of others are wrongly named: "
            "for any attack, by proof"
        )
        if most < _TELLING:
            return bound
        seen = "no attack was tried" if verdict is None else "the attacks that were tried saw none"
        return f"{bound}; that rules out little, and {seen}"
    if verdict is None:
        return "not known: no proof, and no attack was tried"
    return "not seen by the attacks that were tried; no proof"
