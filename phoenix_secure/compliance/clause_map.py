"""Map from legal and technical texts to report fields: a data file with versions and dates."""

from __future__ import annotations

import datetime
import functools
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from phoenix_secure.compliance.schema import Profile
from phoenix_secure.yaml_text import parse_yaml

__all__ = ["Clause", "ClauseMap", "load_clause_map"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Part):
    """A text and the date of the version that was looked at."""

    name: str
    as_of: datetime.date
    url: str


class Clause(_Part):
    """One demand. ``unverified``: its number was remembered, not looked up."""

    text: str
    place: str
    status: Literal["read", "secondary", "unverified"]
    profiles: tuple[Profile, ...]
    subject: str


class ClauseMap(_Part):
    """The whole file; refused where a field names an unknown clause or a clause no known text."""

    version: str
    texts: dict[str, Text]
    clauses: dict[str, Clause]
    fields: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _names_are_known(self) -> ClauseMap:
        for id, clause in self.clauses.items():
            if clause.text not in self.texts:
                raise ValueError(f"clause {id} is of an unknown text")
        for field, ids in self.fields.items():
            if unknown := set(ids) - set(self.clauses):
                raise ValueError(f"field {field} names unknown clauses {sorted(unknown)}")
        return self

    def of(self, field: str, *, profiles: tuple[Profile, ...]) -> tuple[str, ...]:
        """The clauses of ``profiles`` that ask for a field; ``C2.epsilon`` belongs to ``C2``."""
        return tuple(
            id
            for id in self.fields.get(field.partition(".")[0], ())
            if set(self.clauses[id].profiles) & set(profiles)
        )

    def words(self, id: str) -> str:
        """A clause for people, with its standing."""
        clause = self.clauses[id]
        name = self.texts[clause.text].name.split(",")[0]
        mark = " (number unverified)" if clause.status == "unverified" else ""
        return f"{name}, {clause.place}{mark}"


@functools.cache
def load_clause_map() -> ClauseMap:
    """The map that is shipped."""
    source = files("phoenix_secure.compliance").joinpath("data/clauses.yaml")
    return ClauseMap.model_validate(parse_yaml(source.read_bytes(), name="clauses.yaml"))
