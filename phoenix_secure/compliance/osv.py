"""Records of known vulnerabilities in the OSV schema, matched against versions of PyPI packages.

Source: ossf.github.io/osv-schema (1.x), "Evaluation"; versions compare by PEP 440.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["Affected", "Event", "Match", "Range", "Record", "is_of_pypi", "matches_in", "verdict"]

_ECOSYSTEM = "PyPI"
_Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


class Event(_Part):
    """Where a range begins or ends; exactly one is given."""

    introduced: _Short | None = None
    fixed: _Short | None = None
    last_affected: _Short | None = None
    limit: _Short | None = None


class Range(_Part):
    """Events of one kind of version; those of commits (GIT) say nothing about releases."""

    type: _Short
    events: tuple[Event, ...] = Field(min_length=1, max_length=10_000)


class _Package(_Part):
    ecosystem: _Short
    name: _Short


class _Severity(_Part):
    type: _Short
    score: _Short


class Affected(_Part):
    """What one package's versions have to do with a record."""

    package: _Package | None = None
    ranges: tuple[Range, ...] = ()
    versions: tuple[_Short, ...] = ()
    severity: tuple[_Severity, ...] = ()


class Record(_Part):
    """One vulnerability; only what is used here."""

    id: _Short
    modified: datetime
    withdrawn: datetime | None = None
    aliases: tuple[_Short, ...] = ()
    summary: str = ""
    severity: tuple[_Severity, ...] = ()
    affected: tuple[Affected, ...] = ()


class _Verdict(StrEnum):
    AFFECTED = "affected"
    NOT = "not affected"
    UNKNOWN = "not decidable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A record and a package of ours: affected, or not decidable from what the record says."""

    record: Record
    package: str
    version: str
    severity: str
    fixed_in: tuple[str, ...]
    is_decided: bool


def is_of_pypi(affected: Any) -> bool:
    """Whether an unchecked ``affected`` entry speaks of a PyPI package."""
    package = affected.get("package") if isinstance(affected, dict) else None
    ecosystem = package.get("ecosystem") if isinstance(package, dict) else None
    return isinstance(ecosystem, str) and ecosystem.partition(":")[0] == _ECOSYSTEM


def matches_in(records: Sequence[Record], *, packages: dict[str, str]) -> list[Match]:
    """Records that affect ``packages`` (name -> version), by package; withdrawn ones never do.

    Guarantee:  a record that another one of the same package names as an alias is told once;
                what cannot be decided is told, and never dropped.
    """
    found: list[Match] = []
    for name, version in sorted(packages.items()):
        told: set[str] = set()
        for record in sorted(records, key=lambda record: record.id):
            known = {record.id, *record.aliases}
            match = None if record.withdrawn else _match(record, name=name, version=version)
            if match is not None and not known & told:
                found.append(match)
                told |= known
    return found


def _match(record: Record, *, name: str, version: str) -> Match | None:
    entries = [
        each
        for each in record.affected
        if each.package is not None
        and each.package.ecosystem.partition(":")[0] == _ECOSYSTEM
        and canonicalize_name(each.package.name) == canonicalize_name(name)
    ]
    verdicts = [verdict(each, version=version) for each in entries]
    if all(each is _Verdict.NOT for each in verdicts):
        return None
    fixed = {
        event.fixed: None
        for each in entries
        for group in each.ranges
        if group.type == "ECOSYSTEM"
        for event in group.events
        if event.fixed is not None
    }
    severity = [*record.severity, *(one for each in entries for one in each.severity)]
    return Match(
        record=record,
        package=name,
        version=version,
        severity="; ".join(dict.fromkeys(each.score for each in severity)) or "not rated",
        fixed_in=tuple(fixed),
        is_decided=_Verdict.AFFECTED in verdicts,
    )


def verdict(affected: Affected, *, version: str) -> _Verdict:
    """Whether ``version`` is among the affected ones.

    A local part (2.13.0+cpu) is a build of the same release, and is left away.
    """
    try:
        ours = Version(Version(version).public)
    except InvalidVersion:
        return _Verdict.UNKNOWN
    if any(_parsed(each) == ours for each in affected.versions):
        return _Verdict.AFFECTED
    ranges = [each for each in affected.ranges if each.type == "ECOSYSTEM"]
    try:
        if any(_is_in(each, ours) for each in ranges):
            return _Verdict.AFFECTED
    except InvalidVersion:
        return _Verdict.UNKNOWN
    # Commits alone, or nothing at all: the record does not say which releases it means.
    return _Verdict.NOT if ranges or affected.versions else _Verdict.UNKNOWN


def _parsed(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _is_in(group: Range, ours: Version) -> bool:
    limits = [event.limit for event in group.events if event.limit is not None]
    if limits and not any(limit == "*" or ours < Version(limit) for limit in limits):
        return False
    # At one version: what ends there, what begins there, what has it for its last one.
    steps = [(_start(each.fixed), 0) for each in group.events if each.fixed]
    steps += [(_start(each.introduced), 1) for each in group.events if each.introduced]
    steps += [(Version(each.last_affected), 2) for each in group.events if each.last_affected]
    is_affected = False
    for at, kind in sorted(steps):
        if kind == 0 and ours >= at:
            is_affected = False
        if kind == 1 and ours >= at:
            is_affected = True
        if kind == 2 and ours > at:
            is_affected = False
    return is_affected


def _start(text: str | None) -> Version:
    """ "0" stands before every version, also before 0.dev0."""
    return Version("0.dev0") if text == "0" else Version(str(text))
