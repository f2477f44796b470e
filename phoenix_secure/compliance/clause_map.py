"""Map from legal and technical texts to report fields: a data file with versions and dates."""

from __future__ import annotations

import datetime
import functools
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phoenix_secure.compliance.schema import Profile
from phoenix_secure.yaml_text import parse_yaml

__all__ = ["Clause", "ClauseMap", "is_known", "load_clause_map"]

# Maps that reports were made with: the first is today's, the others verify reports of before.
_FILES = {
    "2026-11-d": "clauses.yaml",
    "2026-11-c": "clauses-2026-11-c.yaml",
    "2026-11-b": "clauses-2026-11-b.yaml",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(_Part):
    """The day from which a text applies, to whom, and the provision that says so."""

    since: datetime.date
    to: str
    by: str


class Text(_Part):
    """A text and the date of the version that was looked at."""

    name: str
    as_of: datetime.date
    url: str
    applies: tuple[Start, ...] = ()


class Clause(_Part):
    """One demand.

    status   "unverified" (its number was remembered, not looked up) stands in old maps alone
    as_of    when somebody looked it up; unknown in old maps
    source   whose account a "secondary" clause follows; unknown in old maps. One that was "read"
             was read in the text's own words
    """

    text: str
    place: str
    status: Literal["read", "secondary", "unverified"]
    profiles: tuple[Profile, ...]
    subject: str
    as_of: datetime.date | None = None
    source: str | None = None


class LeftOut(_Part):
    """A clause that nobody could look up: it asks for nothing."""

    text: str
    place: str
    subject: str


_Reasons = dict[str, Annotated[str, Field(min_length=10)]]


class ClauseMap(_Part):
    """The whole file.

    fields   id of a report's field -> its clauses, each with the reason; old maps give none

    Guarantee:  no field is mapped to a clause without a reason, to one that was not looked up or
                not dated, nor to an unknown one; no clause is of an unknown text. Today's map names
                the source of every account.
    """

    version: str
    texts: dict[str, Text]
    clauses: dict[str, Clause]
    fields: dict[str, _Reasons | tuple[str, ...]]
    not_looked_up: tuple[LeftOut, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> ClauseMap:
        for id, clause in self.clauses.items():
            if clause.text not in self.texts:
                raise ValueError(f"clause {id} is of an unknown text")
            if self._is_todays and clause.status == "secondary" and not clause.source:
                raise ValueError(f"clause {id} is an account, and names no source")
        for field, ids in self.fields.items():
            if unknown := set(ids) - set(self.clauses):
                raise ValueError(f"field {field} names unknown clauses {sorted(unknown)}")
            if not isinstance(ids, dict):
                if self._is_todays:
                    raise ValueError(f"field {field} gives no reasons for its clauses")
                continue
            for id in ids:
                if self.clauses[id].status == "unverified" or self.clauses[id].as_of is None:
                    raise ValueError(f"field {field} names {id}, which nobody looked up")
        return self

    @property
    def _is_todays(self) -> bool:
        return self.version == next(iter(_FILES))

    def knows(self, field: str) -> bool:
        """Reports with this map have the field."""
        return field in self.fields

    def of(self, field: str, *, profiles: tuple[Profile, ...]) -> tuple[str, ...]:
        """The clauses of ``profiles`` that ask for a field."""
        return tuple(
            id
            for id in self.fields.get(field, ())
            if set(self.clauses[id].profiles) & set(profiles)
        )

    def why(self, field: str, id: str) -> str:
        """The reason for which clause ``id`` asks for a field; empty in old maps."""
        reasons = self.fields[field]
        return reasons[id] if isinstance(reasons, dict) else ""

    def short_name(self, id: str) -> str:
        """The name of the text that clause ``id`` stands in."""
        return _short(self.texts[self.clauses[id].text])

    def source(self, id: str) -> str:
        """Where clause ``id`` was looked up: an account of it, or the text itself."""
        clause = self.clauses[id]
        return clause.source or self.texts[clause.text].url

    def words(self, id: str) -> str:
        """A clause for people, with its standing."""
        clause = self.clauses[id]
        text = self.texts[clause.text]
        mark = " (number unverified)" if clause.status == "unverified" else ""
        if clause.source:
            mark = f" (by the account of {clause.source})"
        starts = "; ".join(f"from {each.since} for {each.to}" for each in text.applies)
        return f"{_short(text)}, {clause.place}{mark}" + (f" ({starts})" if starts else "")

    @property
    def left_out(self) -> tuple[str, ...]:
        """The clauses that nobody could look up, for people."""
        return tuple(
            f"{_short(self.texts[each.text])}, {each.place} ({each.subject})"
            for each in self.not_looked_up
        )


def _short(text: Text) -> str:
    return text.name.split(",")[0]


def is_known(version: str) -> bool:
    """This software has the map of this version."""
    return version in _FILES


@functools.cache
def load_clause_map(version: str | None = None) -> ClauseMap:
    """The map of this ``version``; today's where none is named.

    Raises:     KeyError for a version that this software does not know.
    """
    name = next(iter(_FILES.values())) if version is None else _FILES[version]
    source = files("phoenix_secure.compliance").joinpath(f"data/{name}")
    return ClauseMap.model_validate(parse_yaml(source.read_bytes(), name=name))
