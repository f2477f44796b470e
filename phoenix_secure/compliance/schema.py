"""The report as data: ``report.json``. The schema is ``Report.model_json_schema()``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from phoenix_secure.compliance.choices import Edition, Profile
from phoenix_secure.evidence.canonical import canonical

__all__ = [
    "AnnexSection",
    "Edition",
    "Evidence",
    "Headline",
    "Kind",
    "Profile",
    "Report",
    "ReportField",
    "Tool",
]


class Kind(StrEnum):
    """The origin of a value; the four are never mixed in one field."""

    MEASURED = "measured"  # observed on this run: by its log, by a test
    DERIVED = "derived"  # follows from other fields or from the settings, and is checked again
    DECLARED = "declared"  # somebody says so (governance.yaml); nothing here can check it
    MISSING = "missing"  # nobody said it and nothing measured it


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Evidence(_Part):
    """A reference to a value's source: a file of the run's folder, and the place in it.

    pointer   JSON pointer (RFC 6901), or ``line N`` of a file of lines
    """

    path: str
    sha256: str
    pointer: str = ""


class ReportField(_Part):
    """One answer.

    id        of the catalogue, such as ``C2.epsilon``
    value     plain JSON; null where the kind is missing
    unit      of the value: images, rounds, or the unit of privacy of an epsilon
    note      what to keep in mind, or what would fill a gap
    clauses   ids of the clause map that ask for it
    """

    id: str
    title: str
    kind: Kind
    value: Any = None
    unit: str | None = None
    note: str | None = None
    evidence: tuple[Evidence, ...] = ()
    clauses: tuple[str, ...] = ()


class Headline(_Part):
    """The first lines: whoever reads no further knows what is promised and what is not."""

    trained: str
    guarantee: str
    strongest_attack: str
    missing: str
    failures: tuple[str, ...]  # contradictions; each makes the report a FAIL


_Words = Annotated[str, StringConstraints(max_length=4000)]


class AnnexSection(_Part):
    """What a report section of the user's own says: plain text that nothing here verifies.

    extension   the name under which its writer is registered or installed
    """

    extension: str = Field(max_length=64)
    title: str = Field(min_length=1, max_length=120)
    text: tuple[_Words, ...] = Field((), max_length=50)
    columns: tuple[_Words, ...] = Field((), max_length=20)
    rows: tuple[tuple[_Words, ...], ...] = Field((), max_length=1000)

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("each row needs as many cells as there are columns")
        return self


class Tool(_Part):
    """The tool that built the report."""

    name: Literal["phoenix-secure"] = "phoenix-secure"
    version: str


class Report(_Part):
    """Everything about one run, field by field.

    evidence_until   time of the newest ledger entry: the report says nothing about later
    clause_map       version of the clause map
    annex            sections of extensions, in the order in which they were asked for
    """

    format: Literal["phoenix-secure/report/v1"] = "phoenix-secure/report/v1"
    id: str
    edition: Edition
    profiles: tuple[Profile, ...]
    tool: Tool
    evidence_until: str
    clause_map: str
    headline: Headline
    fields: tuple[ReportField, ...] = Field(min_length=1)
    # Unwritten where there is none: reports keep the bytes that they had before there were any.
    annex: tuple[AnnexSection, ...] = Field((), max_length=20, exclude_if=lambda annex: not annex)

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785): what the signature's digest is over."""
        return canonical(self.model_dump(mode="json"))

    def field(self, id: str) -> ReportField:
        """The field of this id.

        Raises:     KeyError.
        """
        for found in self.fields:
            if found.id == id:
                return found
        raise KeyError(id)

    def value(self, id: str) -> Any:
        """The field's value, or None where there is no such field."""
        try:
            return self.field(id).value
        except KeyError:
            return None

    @property
    def gaps(self) -> tuple[ReportField, ...]:
        """Missing fields that the chosen profiles ask for."""
        return tuple(each for each in self.fields if each.kind is Kind.MISSING and each.clauses)
