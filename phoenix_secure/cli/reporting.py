"""The work behind ``report``, and what it prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from phoenix_secure.api import reports
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.compliance.compare import compare
from phoenix_secure.compliance.declared import governance_template
from phoenix_secure.compliance.differences import Difference
from phoenix_secure.compliance.exports.registry import registry_obstacle
from phoenix_secure.compliance.output import WrittenReport
from phoenix_secure.compliance.schema import Kind, Report
from phoenix_secure.compliance.verification.alone import read_report
from phoenix_secure.compliance.verification.verify import FAIL_EXIT_CODE
from phoenix_secure.errors import ConfigError

__all__ = ["build", "diff", "print_schema", "print_template", "report_finished_run", "sign"]

_NOT_RANKED = 8
_LINES = 12
_KINDS = {
    Kind.DERIVED: "settings, and what follows from them",
    Kind.MEASURED: "figures",
    Kind.DECLARED: "declared",
}


def build(run: Path | None, *, output_format: Format, **options: Any) -> int:
    """Build with the options of ``api.reports.report``, sign, write, print."""
    if run is None:
        raise ConfigError("name the folder of a finished run: phoenix-secure report RUN")
    written = reports.report(run, **options).written
    _print(written, as_json=output_format is Format.JSON)
    return FAIL_EXIT_CODE if written.report.headline.failures else 0


def report_finished_run(run: Path, *, as_json: bool, key: Path | None = None) -> None:
    """The report at the end of ``run``: a FAIL is printed, and does not make the run fail.

    key   the server's, where it lies outside the run's folder
    """
    _print(reports.report(run, key=key).written, as_json=as_json)


def diff(first: Path, second: Path, *, output_format: Format) -> int:
    """Compare and print."""
    found = compare(read_report(_report_in(first)), read_report(_report_in(second)))
    if output_format is Format.JSON:
        print_json(
            {
                "ranking": found.ranking,
                "refusal": found.refusal,
                "changed": {id: list(values) for id, values in found.changed.items()},
                "parts": [dataclasses.asdict(each) for each in found.parts],
            }
        )
    else:
        _print_differences(found.parts)
        answer = {
            "first": "the first run promises more",
            "second": "the second run promises more",
            "equal": "both runs promise the same",
        }.get(found.ranking or "", f"not ranked: {found.refusal}")
        console.print(answer, style="bold", markup=False, soft_wrap=True)
    return _NOT_RANKED if found.ranking is None else 0


def _report_in(path: Path) -> Path:
    """The report.json at ``path``: the file, in a report's folder, or in a run's.

    Raises:     ConfigError for a folder without one.
    """
    if not path.is_dir():
        return path
    for found in (path / "report.json", path / "report" / "report.json"):
        if found.is_file():
            return found
    raise ConfigError(f"there is no report in {path}: make one with `phoenix-secure report {path}`")


def _print_differences(parts: Sequence[Difference]) -> None:
    """A line each, below what the answers are; long answers are cut, and say so."""
    for kind, title in _KINDS.items():
        of_kind = [each for each in parts if each.kind is kind]
        if not of_kind:
            continue
        console.print(title, style="bold")
        by_field: dict[str, list[Difference]] = {}
        for each in of_kind:
            by_field.setdefault(each.field, []).append(each)
        for field, lines in by_field.items():
            console.print(f"  {lines[0].title} ({field})", markup=False, soft_wrap=True)
            for each in lines[:_LINES]:
                part = f"{each.part}: " if each.part else ""
                note = f"  ({each.note})" if each.note else ""
                text = f"    {part}{_short(each.first)}  ->  {_short(each.second)}{note}"
                console.print(text, markup=False, soft_wrap=True)
            if len(lines) > _LINES:
                console.print(f"    and {len(lines) - _LINES} more: see --format json")


def sign(report: Path, *, output_format: Format, **options: Any) -> int:
    """Counter-sign with the options of ``api.reports.sign_report``, and print the public key."""
    signed = reports.sign_report(report, **options)
    if output_format is Format.JSON:
        print_json(
            {
                "event": "signed",
                "file": str(signed.path),
                "public_key": signed.public_key.hex(),
            }
        )
    else:
        console.print(f"signed: {signed.path}", markup=False, soft_wrap=True)
        console.print(
            f"tell your readers your public key yourself: {signed.public_key.hex()}",
            markup=False,
            soft_wrap=True,
        )
    return 0


def print_template() -> int:
    """The commented governance.yaml."""
    typer.echo(governance_template(), nl=False)
    return 0


def print_schema() -> int:
    """The JSON schema of report.json."""
    print_json(Report.model_json_schema())
    return 0


def _print(written: WrittenReport, *, as_json: bool) -> None:
    headline = written.report.headline
    if as_json:
        print_json(
            {
                "event": "reported",
                "folder": str(written.folder),
                "files": list(written.files),
                "left_out": _left_out(written),
                "headline": headline.model_dump(mode="json"),
            }
        )
        return
    for text in headline.failures:
        console.print(f"FAIL: {text}", style="bold red", markup=False, soft_wrap=True)
    for name in ("trained", "guarantee", "strongest_attack", "missing"):
        label = name.replace("_", " ")
        console.print(f"{label}: {getattr(headline, name)}", markup=False, soft_wrap=True)
    for name, why in _left_out(written).items():
        console.print(f"not written: {name} ({why})", markup=False, soft_wrap=True)
    console.print(f"report:  {written.folder / 'report.html'}  (signed)", soft_wrap=True)


def _left_out(written: WrittenReport) -> dict[str, str]:
    """Files that this report could not have, and why; nothing where there is no guarantee."""
    why = registry_obstacle(written.report)
    has_guarantee = written.report.value("C2.epsilon") is not None
    return {"dp-registry.yaml": why} if has_guarantee and why is not None else {}


def _short(text: str) -> str:
    return text if len(text) < 100 else f"{text[:100]} ..."
