"""The first screen: a strip in the manner of an energy label, and four sentences without jargon."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phoenix_secure.compliance.overview.decisions import open_questions
from phoenix_secure.compliance.schema import Report

__all__ = ["Cell", "label", "sentences"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of the strip on top; ``tone`` is good, bad or empty."""

    title: str
    text: str
    tone: str = ""


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


def _unit(report: Report) -> str:
    unit = (report.value("B3.unit") or {}).get("unit")
    return {"group": "person", "site": "site"}.get(str(unit), "image")


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
    kinds = len(rows) - others
    ways = (
        f"{len(attacks)} {'way' if len(attacks) == 1 else 'ways'} of recognising a training image, "
        f"of {kinds} {'kind' if kinds == 1 else 'kinds'} of attack"
    )
    outcome = {
        "leak found": f"At least one of {ways} did better than guessing.",
        "inconclusive": f"{ways} were tried, on too few images to say anything.",
    }.get(verdict["outcome"], f"{ways} did no better than guessing.")
    return f"{outcome} {others} other kinds were not tested or do not apply."
