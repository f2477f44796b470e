"""Decisions for people: the open questions, by who can answer them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from phoenix_secure.compliance.declared import GOVERNANCE
from phoenix_secure.compliance.schema import Report, ReportField

__all__ = ["Decision", "decisions", "open_questions"]

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
_YOURS, _TECHNICAL, _OFF = "yours", "technical", "because privacy is off"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Open questions that one party can answer."""

    who: str
    fields: tuple[ReportField, ...]


def open_questions(report: Report) -> Counter[str]:
    """Gaps by who can close them: people, whoever runs the software, or privacy itself."""
    return Counter(_kind(report, each) for each in report.gaps)


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
