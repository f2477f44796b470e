"""Two reports side by side; guarantees are ranked only where they are of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phoenix_secure.compliance.differences import Difference, differences
from phoenix_secure.compliance.schema import Report

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The differences of two reports, and the ranking of their guarantees.

    ranking   "first", "second" (which promises more) or "equal"; None where it is refused
    refusal   why no ranking is possible
    changed   fields that differ: id -> (first value, second value)
    parts     the same for people, one part of an answer at a time
    """

    ranking: str | None
    refusal: str | None
    changed: dict[str, tuple[Any, Any]]
    parts: tuple[Difference, ...]


def compare(first: Report, second: Report) -> Comparison:
    """Compare field by field.

    Guarantee:  no ranking of epsilons across units, adjacencies or deltas, nor of a guarantee with
                a run that contradicts its own.
    Source:     NIST SP 800-226: guarantees of different units or deltas are not comparable.
    """
    ids = dict.fromkeys(each.id for report in (first, second) for each in report.fields)
    changed = {
        id: (first.value(id), second.value(id)) for id in ids if first.value(id) != second.value(id)
    }
    refusal = _refusal(first, second)
    ranking = None
    if refusal is None:
        one, two = first.value("C2.epsilon"), second.value("C2.epsilon")
        ranking = "equal" if one == two else ("first" if one < two else "second")
    parts = differences(first, second)
    return Comparison(ranking=ranking, refusal=refusal, changed=changed, parts=parts)


def _refusal(first: Report, second: Report) -> str | None:
    names = ("the first", "the second")
    for name, report in zip(names, (first, second), strict=True):
        if report.headline.failures:
            return f"{name} report is a FAIL: its claim is contradicted"
        if report.value("C2.epsilon") is None:
            return f"{name} run has no formal guarantee"
    one, two = first.value("B3.unit"), second.value("B3.unit")
    if one["unit"] != two["unit"]:
        return f"different units of privacy: {one['unit']} and {two['unit']}"
    if one["adjacency"] != two["adjacency"]:
        return f"different neighbours: {one['adjacency']}, and {two['adjacency']}"
    if first.value("C2.delta") != second.value("C2.delta"):
        return (
            f"different deltas: {first.value('C2.delta'):g} and {second.value('C2.delta'):g}; an "
            "epsilon means nothing without its delta"
        )
    return None
