"""The clause map as one table: which text asks for which field, where it was looked up, and why."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from phoenix_secure.compliance.catalogue import TITLES
from phoenix_secure.compliance.clause_map import load_clause_map
from phoenix_secure.compliance.schema import Profile

__all__ = ["COLUMNS", "ClauseRow", "clause_table"]

COLUMNS = ("field", "title", "clause", "subject", "looked up", "source", "reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClauseRow:
    """One clause that asks for one field.

    source   address of the text where its own words were read, else whose account was followed
    """

    field: str
    title: str
    clause: str
    subject: str
    looked_up: datetime.date | None
    source: str
    reason: str

    def cells(self) -> tuple[str, ...]:
        """In the order of ``COLUMNS``."""
        when = "" if self.looked_up is None else self.looked_up.isoformat()
        return (
            self.field,
            self.title,
            self.clause,
            self.subject,
            when,
            self.source,
            self.reason,
        )


def clause_table(*, profiles: tuple[Profile, ...]) -> tuple[ClauseRow, ...]:
    """Today's map in the order of a report's fields; fields that nobody asks for are left out."""
    clauses = load_clause_map()
    return tuple(
        ClauseRow(
            field=field,
            title=title,
            clause=f"{clauses.short_name(id)}, {clauses.clauses[id].place}",
            subject=clauses.clauses[id].subject,
            looked_up=clauses.clauses[id].as_of,
            source=clauses.source(id),
            reason=clauses.why(field, id),
        )
        for field, title in TITLES.items()
        for id in clauses.of(field, profiles=profiles)
    )
