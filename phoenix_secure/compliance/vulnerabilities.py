"""Known vulnerabilities of a run's components, by a list that is handed in: nothing is asked.

The list is an export of osv.dev: PyPI's ``all.zip``, or records in one JSON file. What names a
component of the run is kept in the run's folder, beside the digest of the whole list, and matched
each time that the report is built.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from phoenix_secure.compliance.osv import Match, Record, is_of_pypi, matches_in
from phoenix_secure.errors import ConfigError

__all__ = [
    "VULNERABILITIES",
    "VulnerabilityRow",
    "VulnerabilityTable",
    "parse_vulnerabilities",
    "pypi_packages",
    "read_vulnerabilities",
    "vulnerability_table",
]

VULNERABILITIES = "vulnerabilities.json"
_MAX_JSON_BYTES = 1 << 26
_MAX_ZIP_BYTES = 1 << 28
_MAX_RECORD_BYTES = 1 << 22
_MAX_RECORDS = 1_000_000
_MAX_ALL_BYTES = 1 << 32
_SUMMARY = 300
_NOT_PACKAGES = ("python", "platform")
_GET_IT = "hand in PyPI's export of osv.dev (all.zip), or its records as one JSON file"
# What Python's zip reader raises for files that are damaged, encrypted, or packed in a rare way.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
_MODIFIED = TypeAdapter(AwareDatetime)


class _Source(BaseModel):
    """The whole list: its SHA-256, and the newest change of a record in it."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    records: int
    newest: AwareDatetime


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: _Source
    records: tuple[Record, ...]


def pypi_packages(components: dict[str, Any]) -> dict[str, str]:
    """The components that are packages of PyPI, name -> version."""
    return {
        str(name): str(version) for name, version in components.items() if name not in _NOT_PACKAGES
    }


def read_vulnerabilities(path: Path, *, packages: dict[str, str]) -> bytes:
    """The records in the file at ``path`` that name one of ``packages``, as one document.

    Raises:     ConfigError for a file that is missing, too long, no such list, or of another
                ecosystem: a list that names nothing would look like one that found nothing.
    """
    content = _content(path)
    ours = {canonicalize_name(name) for name in packages}
    kept, count, of_pypi, newest = [], 0, 0, None
    for place, value in _records(content, name=path.name):
        modified = _checked_head(value, place=place)
        newest = modified if newest is None else max(newest, modified)
        count += 1
        entries = [each for each in value.get("affected") or [] if is_of_pypi(each)]
        of_pypi += bool(entries)
        if any(canonicalize_name(str(each["package"].get("name"))) in ours for each in entries):
            kept.append(_record(value, place=place))
    if newest is None or not of_pypi:
        raise ConfigError(f"{path.name} has no record of a PyPI package: {_GET_IT}")
    source = _Source(sha256=hashlib.sha256(content).hexdigest(), records=count, newest=newest)
    document = _Kept(source=source, records=tuple(kept))
    return (json.dumps(document.model_dump(mode="json"), indent=2, sort_keys=True) + "\n").encode()


def parse_vulnerabilities(content: bytes, *, name: str, packages: dict[str, str]) -> dict[str, Any]:
    """Matches of ``packages`` in ``read_vulnerabilities``'s document, for the report.

    Raises:     ConfigError for anything but such a document.
    """
    try:
        kept = _Kept.model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(
            f"{name} is not what report --vulnerabilities writes: hand the list in again"
        ) from error
    matches = matches_in(kept.records, packages=packages)
    return {
        "affected": [_row(each) for each in matches if each.is_decided],
        "not_decidable": [_row(each) for each in matches if not each.is_decided],
        "looked_up": dict(sorted(packages.items())),
        "list": {
            "sha256": kept.source.sha256,
            "records": kept.source.records,
            "newest_record": kept.source.newest.date().isoformat(),
        },
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class VulnerabilityRow:
    """One line of the report's annex."""

    package: str
    version: str
    name: str
    summary: str
    severity: str
    fixed_in: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VulnerabilityTable:
    """What was found, in words, and line by line."""

    told: str
    rows: tuple[VulnerabilityRow, ...]


def vulnerability_table(value: dict[str, Any]) -> VulnerabilityTable:
    """The field ``D5.known_vulnerabilities`` for its readers."""
    affected, unclear = value["affected"], value["not_decidable"]
    listed = value["list"]
    told = (
        f"{_affecting(len(affected))} the {len(value['looked_up'])} packages that "
        f"the run recorded"
        + (f"; of {len(unclear)} the list does not say which versions it means" if unclear else "")
        + f". Looked up in {listed['records']:,} records, the newest of {listed['newest_record']} "
        f"(SHA-256 {listed['sha256']}). Somebody handed this list in, and a vulnerability that is "
        "found later is not in it."
    )
    rows = [_table_row(each, note="") for each in affected]
    rows += [_table_row(each, note="versions unclear") for each in unclear]
    return VulnerabilityTable(told=told, rows=tuple(rows))


def _affecting(count: int) -> str:
    return (
        "1 known vulnerability affects" if count == 1 else f"{count} known vulnerabilities affect"
    )


def _table_row(each: dict[str, Any], *, note: str) -> VulnerabilityRow:
    more = ", ".join([*each["aliases"], *([note] if note else [])])
    return VulnerabilityRow(
        package=each["package"],
        version=each["version"],
        name=f"{each['id']} ({more})" if more else each["id"],
        summary=each["summary"] or "-",
        severity=each["severity"],
        fixed_in=", ".join(each["fixed_in"]) or "-",
    )


def _row(match: Match) -> dict[str, Any]:
    record = match.record
    return {
        "package": match.package,
        "version": match.version,
        "id": record.id,
        "aliases": list(record.aliases),
        "summary": record.summary[:_SUMMARY],
        "severity": match.severity,
        "fixed_in": list(match.fixed_in),
    }


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        most = _MAX_ZIP_BYTES if path.suffix == ".zip" else _MAX_JSON_BYTES
        if size > most:
            raise ConfigError(f"{path} is longer than {most >> 20} MiB: {_GET_IT}")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}): {_GET_IT}") from error


def _records(content: bytes, *, name: str) -> Iterator[tuple[str, Any]]:
    """Each record, and the place to name where it is not one."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        yield from _zipped(content, name=name)
        return
    value = _json(content, place=name)
    if isinstance(value, dict) and "vulns" in value:
        value = value["vulns"]
    found = value if isinstance(value, list) else [value]
    for number, each in enumerate(found, start=1):
        yield f"{name}, record {number}", each


def _zipped(content: bytes, *, name: str) -> Iterator[tuple[str, Any]]:
    """Member by member, each read no further than a record may be long, whatever headers say."""
    left = _MAX_ALL_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [each for each in archive.infolist() if each.filename.endswith(".json")]
            if len(members) > _MAX_RECORDS:
                raise ConfigError(f"{name} has more than {_MAX_RECORDS:,} records: {_GET_IT}")
            for member in members:
                with archive.open(member) as file:
                    data = file.read(_MAX_RECORD_BYTES + 1)
                left -= len(data)
                if len(data) > _MAX_RECORD_BYTES or left < 0:
                    raise ConfigError(
                        f"{name}: {member.filename} is longer than records are: {_GET_IT}"
                    )
                place = f"{name}: {member.filename}"
                yield place, _json(data, place=place)
    except _DAMAGED as error:
        raise ConfigError(f"{name} is damaged, or no plain zip file: {_GET_IT}") from error


def _json(data: bytes, *, place: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place} is not JSON: {_GET_IT}") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _checked_head(value: Any, *, place: str) -> Any:
    """What every record has, whatever it speaks of; answers when it was changed."""
    version = value.get("schema_version", "1") if isinstance(value, dict) else None
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise ConfigError(f"{place} is no record of the OSV schema 1.x: {_GET_IT}")
    if not isinstance(value.get("id"), str) or not isinstance(value.get("affected", []), list):
        raise ConfigError(f"{place} is no record of the OSV schema (id, affected): {_GET_IT}")
    try:
        return _MODIFIED.validate_python(value.get("modified"))
    except ValidationError as error:
        raise ConfigError(f"{place} does not say when it was modified: {_GET_IT}") from error


def _record(value: dict[str, Any], *, place: str) -> Record:
    named = {key: each for key, each in value.items() if each is not None}
    try:
        return Record.model_validate(named)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{place} is no record of the OSV schema 1.x ({where}): {_GET_IT}"
        ) from error
