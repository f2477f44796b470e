"""``phoenix-secure audit``: attack a model or its samples, and say what was found."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import print_json

__all__ = ["audit"]


class _Profile(enum.StrEnum):
    SMOKE = "smoke"
    FAST = "fast"
    FULL = "full"


class _Edition(enum.StrEnum):
    PUBLIC = "public"
    CONFIDENTIAL = "confidential"


def audit(
    target: Annotated[
        Path | None,
        typer.Argument(
            help="A run, a diffusers DDPM or DDIM model folder, or a folder of samples."
        ),
    ] = None,
    members: Annotated[
        Path | None,
        typer.Option("--members", help="Images it was trained on: folder or .npz. A run knows."),
    ] = None,
    non_members: Annotated[
        Path | None,
        typer.Option("--non-members", help="Images of the same kind that it never saw."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Further images of the kind, to calibrate attacks with."),
    ] = None,
    profile: Annotated[
        _Profile,
        typer.Option("--profile", help="smoke < 30 s, fast < 2 min, full with shadow models."),
    ] = _Profile.FAST,
    attacks: Annotated[
        list[str] | None, typer.Option("--attack", help="Only this attack; may be repeated.")
    ] = None,
    fprs: Annotated[
        list[float] | None,
        typer.Option("--fpr", help="False-positive rate to report; may be repeated."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed for sampling, noise and group assignment.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Guarantee claimed for it; with --delta.")
    ] = None,
    delta: Annotated[float, typer.Option("--delta", help="Delta of the claimed guarantee.")] = 1e-5,
    federated: Annotated[
        bool,
        typer.Option("--federated/--no-federated", help="Also attack the updates of a run."),
    ] = False,
    edition: Annotated[
        _Edition,
        typer.Option("--edition", help="confidential adds single images and figures per site."),
    ] = _Edition.PUBLIC,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the results; default TARGET/audit.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Compare with this confidential audit of the same images."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="Figures for each value of column:NAME (of a table beside the pictures), "
            "array:NAME (of an .npz) or folder:LEVEL, such as column:scanner; confidential.",
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option("--gate", help="YAML of limits; exit code 5 where one is broken, else 0."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the report's JSON schema.")
    ] = False,
) -> int:
    """Try to tell members from non-members, with intervals, a placebo and a blind baseline.

    Exit code 0: no leak detected (minimum detectable AUC stated); 3: leak found; 4: inconclusive.
    With --gate it is the gate's: 0 passed, 5 not passed (docs/audit.md has an example).
    """
    if schema:
        from phoenix_secure.audit.report import AuditReport

        print_json(AuditReport.model_json_schema())
        return 0
    if target is None:
        raise typer.BadParameter("TARGET is missing: a run, a model folder or a folder of samples")
    from phoenix_secure.cli import auditing

    return auditing.audit(
        target,
        members=members,
        non_members=non_members,
        reference=reference,
        profile=profile.value,
        attacks=attacks or None,
        fprs=fprs or (0.1, 0.01, 0.001),
        seed=seed,
        device=device,
        claim=None if epsilon is None else (epsilon, delta),
        federated=federated,
        edition=edition.value,
        out=out,
        against=against,
        by=by,
        gate=gate,
        as_json=as_json,
    )
