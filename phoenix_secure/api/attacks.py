"""Audits: attacks a model or its samples, and keeps the result where its run can prove it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from diffusers.utils.logging import disable_progress_bar

from phoenix_secure.api.results import AuditResult
from phoenix_secure.audit.comparison import EarlierAudit
from phoenix_secure.audit.output import write_findings
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.recording import AuditRecords
from phoenix_secure.audit.roles import TooFewImages
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.compliance.output import mark_superseded
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.errors import ConfigError, PhoenixError
from phoenix_secure.federation.run.folder import RunFolder

__all__ = ["audit", "audit_finished_run", "fix_terms"]

Progress = Callable[[str, int, int], object]
_log = logging.getLogger(__name__)
_SILENT: Progress = lambda what, done, total: None  # noqa: E731


def audit(
    target: str | Path,
    *,
    members: str | Path | None = None,
    non_members: str | Path | None = None,
    reference: str | Path | None = None,
    profile: str = "fast",
    attacks: Sequence[str] | None = None,
    fprs: Sequence[float] = (0.1, 0.01, 0.001),
    seed: int = 0,
    device: str = "auto",
    claim: tuple[float, float] | None = None,
    federated: bool = False,
    edition: Literal["public", "confidential"] = "public",
    out: str | Path | None = None,
    against: str | Path | None = None,
    by: str | None = None,
    progress: Progress = _SILENT,
) -> AuditResult:
    """Try to tell members from non-members of ``target``; the arguments are the command's options.

    target      a run, a diffusers model folder, or a folder of samples
    claim       (epsilon, delta) that somebody claims for it
    out         folder of the results; ``target/audit`` where left out
    against     folder of a confidential audit of the same images, to compare with
    by          column:NAME, array:NAME or folder:LEVEL of the images' own metadata: figures for
                each of its values; confidential edition only

    Raises:     ConfigError, DataError, CheckpointError.
    """
    request = Request(
        profile=profile_named(profile),
        seed=seed,
        attacks=None if attacks is None else tuple(attacks),
        fprs=tuple(fprs),
        edition=edition,
        federated=federated,
    )
    if by is not None and edition != "confidential":
        raise ConfigError(
            f"--by {by} tells about groups of people: with --edition confidential alone"
        )
    path = Path(target).expanduser()
    folder = Path(out).expanduser() if out is not None else path / "audit"
    before = _path(against)
    if before is not None and before.resolve() == folder.resolve():
        raise ConfigError(f"--against {before} is where the results go: choose another --out")
    earlier = None if before is None else EarlierAudit.open(before)
    disable_progress_bar()
    opened = open_target(
        path,
        members=_path(members),
        non_members=_path(non_members),
        reference=_path(reference),
        device=device,
        cache_dir=default_cache_dir(),
        claim=claim,
        by=by,
    )
    records = None if opened.run is None else AuditRecords.of(opened.run)
    return _attack(opened, request, out=folder, records=records, against=earlier, progress=progress)


def fix_terms(folder: RunFolder, *, profile: str) -> None:
    """Before the first round of a run that is to be audited: what will be tried, in its ledger."""
    records = AuditRecords.of(folder, locked=True)
    if records is not None:
        records.fix_terms(Request(profile=profile_named(profile)))


def audit_finished_run(
    folder: RunFolder, *, profile: str, progress: Progress = _SILENT
) -> AuditResult | None:
    """The audit at the end of a run, by whoever holds its lock.

    None where the run holds too few images for any figure: the log says so, and the run's report
    that no audit was made.
    """
    disable_progress_bar()
    opened = open_target(
        folder.path,
        members=None,
        non_members=None,
        reference=None,
        device=folder.load_config().device,
        cache_dir=default_cache_dir(),
    )
    try:
        return _attack(
            opened,
            Request(profile=profile_named(profile)),
            out=folder.path / "audit",
            records=AuditRecords.of(folder, locked=True),
            progress=progress,
        )
    except TooFewImages as error:
        _log.warning("no audit: %s", error)
        return None


def _attack(
    target: Target,
    request: Request,
    *,
    out: Path,
    records: AuditRecords | None,
    against: EarlierAudit | None = None,
    progress: Progress = _SILENT,
) -> AuditResult:
    """Attack, write, and enter the result into the run's ledger where that can be done."""

    def planned(plan: AuditPlan) -> None:
        if against is not None:
            against.require_same(plan)
        if records is not None:
            records.fix_plan(plan)

    findings = run_audit(
        target,
        request,
        out=out,
        progress=progress,
        planned=planned,
    )
    if against is not None:
        report = findings.report.model_copy(update={"compared": against.compare(findings)})
        findings = dataclasses.replace(findings, report=report)
    write_findings(findings, out=out)
    unrecorded, superseded = None, None
    if records is not None:
        try:
            if records.audited(out / "audit.json") and target.run is not None:
                superseded = mark_superseded(target.run.path)
        except PhoenixError as error:  # the audit itself is done, and must still be told
            unrecorded = str(error)
    elif target.run is not None:
        unrecorded = "its server's key is not to be used here"
    return AuditResult(
        report=findings.report, folder=out, unrecorded=unrecorded, superseded=superseded
    )


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given).expanduser()
