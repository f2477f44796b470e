"""The work behind ``audit``, and the table on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer
from diffusers.utils.logging import disable_progress_bar
from rich import box
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from phoenix_secure.audit.output import write_findings
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.recording import AuditRecords
from phoenix_secure.audit.report import AuditReport, Outcome
from phoenix_secure.audit.suite import Findings, Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.cli.output import console, print_json
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.run.folder import RunFolder

__all__ = ["audit", "audit_finished_run", "fix_terms"]

_COLOURS = {Outcome.LEAK: "bold red", Outcome.NONE: "green", Outcome.INCONCLUSIVE: "yellow"}


def audit(
    target: Path,
    *,
    members: Path | None,
    non_members: Path | None,
    reference: Path | None,
    profile: str,
    attacks: list[str] | None,
    fprs: list[float] | None,
    seed: int,
    device: str,
    claim: tuple[float, float] | None,
    federated: bool,
    edition: Literal["public", "confidential"],
    out: Path | None,
    as_json: bool,
) -> int:
    """Audit, write, print; the exit code is the verdict's."""
    request = Request(
        profile=profile_named(profile),
        seed=seed,
        attacks=None if attacks is None else tuple(attacks),
        fprs=tuple(fprs) if fprs else (0.1, 0.01, 0.001),
        edition=edition,
        federated=federated,
    )
    disable_progress_bar()
    opened = open_target(
        target,
        members=members,
        non_members=non_members,
        reference=reference,
        device=device,
        cache_dir=default_cache_dir(),
        claim=claim,
    )
    folder = out or (target / "audit")
    records = None if opened.run is None else AuditRecords.of(opened.run)
    report = _run(opened, request, out=folder, quiet=as_json, records=records).report
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        _print(report, folder)
    return report.verdict.outcome.exit_code


def fix_terms(folder: RunFolder, *, profile: str) -> None:
    """Before the first round of a run that is to be audited: what will be tried, in its ledger."""
    records = AuditRecords.of(folder, locked=True)
    if records is not None:
        records.fix_terms(Request(profile=profile_named(profile)))


def audit_finished_run(folder: RunFolder, *, profile: str, as_json: bool) -> None:
    """The audit at the end of ``run``: it reports, and a leak does not make the run fail."""
    disable_progress_bar()
    opened = open_target(
        folder.path,
        members=None,
        non_members=None,
        reference=None,
        device=folder.load_config().device,
        cache_dir=default_cache_dir(),
    )
    out = folder.path / "audit"
    request = Request(profile=profile_named(profile))
    records = AuditRecords.of(folder, locked=True)
    report = _run(opened, request, out=out, quiet=as_json, records=records).report
    if as_json:
        verdict = report.verdict.model_dump(mode="json")
        print_json({"event": "audited", "folder": str(out), "verdict": verdict})
    else:
        _print(report, out)


def _run(
    target: Target, request: Request, *, out: Path, quiet: bool, records: AuditRecords | None
) -> Findings:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("audit", total=None)
        findings = run_audit(
            target,
            request,
            out=out,
            progress=lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
            planned=(lambda plan: None) if records is None else records.fix_plan,
        )
    write_findings(findings, out=out)
    if records is not None:
        try:
            records.audited(out / "audit.json")
        except PhoenixError as error:  # the audit itself is done, and must still be told
            console.print(f"not recorded in the run's ledger: {error}", markup=False)
    elif target.run is not None and not quiet:
        console.print("not recorded in the run's ledger: its server's key is not to be used here")
    return findings


def _print(report: AuditReport, out: Path) -> None:
    sizes = report.plan.evaluation
    table = Table(
        title=f"audit of {sizes.num_members} members and {sizes.num_others} non-members "
        f"({report.plan.profile})",
        box=box.SIMPLE,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("attack", no_wrap=True)
    for name in ("AUC", *(f"TPR@{100 * fpr:g}%" for fpr in report.plan.fprs), "p", "placebo"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in sorted(report.attacks, key=lambda one: one.p_adjusted):
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
    console.print(table)
    for row in () if report.federated is None else report.federated.rows:
        console.print(
            f"  server sees {row.view}: {row.attack} AUC {row.auc.value:.3f} "
            f"[{row.auc.low:.3f},{row.auc.high:.3f}]",
            soft_wrap=True,
            markup=False,
        )
    verdict = report.verdict
    console.print(f"[{_COLOURS[verdict.outcome]}]{verdict.headline}[/]", soft_wrap=True)
    for reason in verdict.reasons:
        console.print(f"  {reason}", soft_wrap=True, markup=False)
    console.print(
        f"  detectable: AUC {verdict.detectable_auc:.3f}; false alarm {verdict.false_alarm}",
        soft_wrap=True,
        markup=False,
    )
    if report.canaries is not None:
        found = report.canaries
        console.print(
            f"  canaries: epsilon >= {found.epsilon_steinke:.2f} (Gaussian mechanism: >= "
            f"{found.epsilon_gaussian:.2f}) at delta {found.delta:g}; claim: {found.claim}",
            soft_wrap=True,
            markup=False,
        )
    console.print(f"report:  {out / 'audit.md'}    {report.seconds:.0f} s", soft_wrap=True)
