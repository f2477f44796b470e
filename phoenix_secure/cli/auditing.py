"""The work behind ``audit``, and the table on one screen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from phoenix_secure.api import attacks
from phoenix_secure.api.results import AuditResult
from phoenix_secure.audit.gate import FAILED as GATE_FAILED
from phoenix_secure.audit.gate import Gate
from phoenix_secure.audit.markdown_games import p_text
from phoenix_secure.audit.report import AuditReport, Outcome
from phoenix_secure.cli.listing import print_table
from phoenix_secure.cli.output import console, print_json
from phoenix_secure.federation.run.folder import RunFolder

__all__ = ["audit", "audit_finished_run", "print_pooled_audit"]

_COLOURS = {Outcome.LEAK: "bold red", Outcome.NONE: "green", Outcome.INCONCLUSIVE: "yellow"}


def audit(target: Path, *, as_json: bool, gate: Path | None = None, **options: Any) -> int:
    """Audit with the options of ``api.attacks.audit``, print; the exit code is the verdict's, or
    the gate's."""
    rules = None if gate is None else Gate.read(gate)  # before an audit of minutes
    with _progress(quiet=as_json) as progress:
        found = attacks.audit(target, progress=progress, **options)
    _tell_unrecorded(found, quiet=as_json)
    if as_json:
        typer.echo(found.report.model_dump_json())
    else:
        _print(found.report, found.folder)
        _tell_superseded(found, target)
    if rules is not None:
        return _passed(rules, found.report)
    return found.report.verdict.outcome.exit_code


def _passed(rules: Gate, report: AuditReport) -> int:
    """Say on stderr what the gate objects to; its exit code."""
    objections = rules.objections(report)
    for line in objections:
        typer.echo(f"gate: {line}", err=True)
    typer.echo(f"gate: {'not passed' if objections else 'passed'}", err=True)
    return GATE_FAILED if objections else 0


def audit_finished_run(folder: RunFolder, *, profile: str, as_json: bool) -> str | None:
    """The audit at the end of ``run``: it reports, and a leak does not make the run fail. Returns
    the verdict in words; None where there were too few images for one."""
    with _progress(quiet=as_json) as progress:
        found = attacks.audit_finished_run(folder, profile=profile, progress=progress)
    if found is None:
        return None
    _tell_unrecorded(found, quiet=as_json)
    if as_json:
        verdict = found.report.verdict.model_dump(mode="json")
        print_json({"event": "audited", "folder": str(found.folder), "verdict": verdict})
    else:
        _print(found.report, found.folder)
    return found.report.verdict.headline


def print_pooled_audit(folder: RunFolder, *, as_json: bool) -> None:
    """The audit that the sites of a deployed run made; one line where there is none yet."""
    file = folder.path / "audit" / "audit.json"
    if not file.exists():
        if not as_json:
            console.print(
                f"no pooled audit yet: `phoenix-secure resume {folder.path}` tries again",
                soft_wrap=True,
                markup=False,
            )
        return
    report = AuditReport.model_validate_json(file.read_bytes())
    if as_json:
        verdict = report.verdict.model_dump(mode="json")
        print_json({"event": "audited", "folder": str(file.parent), "verdict": verdict})
    else:
        _print(report, file.parent)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[attacks.Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("audit", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


def _tell_unrecorded(found: AuditResult, *, quiet: bool) -> None:
    if found.unrecorded is not None and not quiet:
        console.print(f"not recorded in the run's ledger: {found.unrecorded}", markup=False)


def _tell_superseded(found: AuditResult, run: Path) -> None:
    if found.superseded is not None:
        console.print(
            f"the report in {found.superseded} is superseded by this audit: build it again with "
            f"`phoenix-secure report {run}`",
            soft_wrap=True,
            markup=False,
        )


def _print(report: AuditReport, out: Path) -> None:
    persons = report.plan.persons
    num_members, num_others = report.num_images
    if persons is not None:
        num_members, num_others = persons.num_members, persons.num_others
    is_of_persons = persons is not None or (report.pooled and report.pooled.unit == "person")
    who = "persons: " if is_of_persons else ""
    table = Table(
        title=f"audit of {who}{num_members} members and {num_others} non-members "
        f"({report.plan.profile})",
        box=box.SIMPLE,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("attack", overflow="fold")
    for name in ("AUC", *(f"TPR@{100 * fpr:g}%" for fpr in report.plan.fprs), "p", "placebo"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in sorted(report.deciding, key=lambda one: one.p_adjusted):
        tprs = [
            "n. e." if found.tpr is None else f"{100 * found.tpr.value:.1f}%" for found in one.tpr
        ]
        table.add_row(
            one.name,
            f"{one.auc.value:.3f} [{one.auc.low:.3f},{one.auc.high:.3f}]",
            *tprs,
            f"{one.p_adjusted:.2g}",
            f"{one.placebo_auc:.2f}" if one.placebo_inside else f"{one.placebo_auc:.2f} !",
        )
    print_table(table)
    for view in () if report.federated is None else report.federated.rows:
        console.print(
            f"  server sees {view.view}: {view.attack} AUC {view.auc.value:.3f} "
            f"[{view.auc.low:.3f},{view.auc.high:.3f}]",
            soft_wrap=True,
            markup=False,
        )
    for line in _of_other_games(report):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    verdict = report.verdict
    console.print(verdict.headline, style=_COLOURS[verdict.outcome], soft_wrap=True)
    for reason in verdict.reasons:
        console.print(f"  {reason}", soft_wrap=True, markup=False)
    console.print(
        f"  detectable: AUC {verdict.detectable_auc:.3f}; false alarm {verdict.false_alarm}",
        soft_wrap=True,
        markup=False,
    )
    if report.compared is not None:
        for row in report.compared.attacks:
            console.print(
                f"  {row.name}: AUC {row.change.value:+.3f} [{row.change.low:+.3f},"
                f"{row.change.high:+.3f}] against {report.compared.before}",
                soft_wrap=True,
                markup=False,
            )
    for line in report.advice:
        console.print(f"  to do: {line}", soft_wrap=True, markup=False)
    if report.canaries is not None:
        found = report.canaries
        console.print(
            f"  canaries: epsilon >= {found.epsilon_steinke:.2f} (Gaussian mechanism: >= "
            f"{found.epsilon_gaussian:.2f}) at delta {found.delta:g}; claim: {found.claim}",
            soft_wrap=True,
            markup=False,
        )
    console.print(f"report:  {out / 'audit.md'}    {report.seconds:.0f} s", soft_wrap=True)


def _of_other_games(report: AuditReport) -> list[str]:
    """What the games beside the membership of single images found, a line each."""
    lines = []
    if (use := report.dataset_inference) is not None:
        p = p_text(use.p_adjusted)
        lines.append(f"dataset inference: all members against unseen images, p {p}")
    if (copies := report.extraction) is not None:
        lines.append(
            f"extraction: near copies of {copies.extracted} of {copies.num_members} members, "
            f"control {copies.extracted_control} (p {copies.p_value:.2g})"
        )
    if (inversion := report.inversion) is not None:
        lines += [
            f"server sees {row.view}: {row.recovered} of {row.num_reconstructions} reconstructions "
            f"are the image, control {row.recovered_control} (p {row.p_value:.2g})"
            for row in inversion.rows
        ]
    return lines
