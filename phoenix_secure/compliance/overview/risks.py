"""Risks for a person, and the measures against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phoenix_secure.compliance.schema import Report

__all__ = ["Measure", "Risk", "measures", "risks"]

_TELLING = 0.5  # a ceiling above which nearly everybody might be found


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


def _told(value: Any) -> str:
    return "declared" if value is not None else "nobody said"


def _secured(report: Report) -> bool:
    found = report.value("D2.secure_aggregation")
    return isinstance(found, dict) and found.get("mode") != "off"


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
