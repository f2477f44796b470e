"""``phoenix-secure site``: what the owner of images runs, reads and signs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from phoenix_secure.cli.governing import (
    FolderArgument,
    open_desk,
    publish,
    reject,
    review,
    uses_pysyft,
)
from phoenix_secure.cli.output import Format, FormatOption, console, print_json

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.site_budget import SiteBudget
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.run.plan import Plan
    from phoenix_secure.federation.site.budget import DataBudget

__all__ = ["app"]

app = typer.Typer(help="A data owner's side of a federation.", no_args_is_help=True)
app.command()(publish)
app.command()(review)
app.command()(reject)


@app.command()
def start(folder: FolderArgument) -> None:
    """Keep the site running until Ctrl-C or SIGTERM; it serves approved plans only."""
    from phoenix_secure.cli.service import say, stop_event
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.deployment.site_process import SiteProcess

    place = SiteFolder(folder)
    approver = open_desk(place).approver() if uses_pysyft(place) else None
    process = SiteProcess(place, say=say, approver=approver)
    settings = process.settings
    say(f"{settings.site} of {settings.federation}: server {settings.server or settings.folder}")
    say(f"roster fingerprint: {process.fingerprint}")
    process.run(stop_event())
    say("stopped")


@app.command()
def show(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """The site's name, policy and the roster's fingerprint, to be compared by telephone."""
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    place = SiteFolder(folder)
    settings, roster = place.settings(), place.roster()
    facts = {
        "site": settings.site,
        "federation": settings.federation,
        "server": settings.server or settings.folder,
        "fingerprint": roster.fingerprint,
        "members": [site for site, _ in roster.members],
        "policy": settings.policy.model_dump(mode="json"),
    }
    if output_format is Format.JSON:
        print_json(facts)
        return
    for name, value in facts.items():
        console.print(f"{name:<12} {value}", soft_wrap=True)


@app.command()
def plans(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """The plans that were offered, with what the policy and the owner say to each."""
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.run.plan import Plan

    place = SiteFolder(folder)
    settings = place.settings()
    approver = open_desk(place).approver() if uses_pysyft(place) else place.approver(settings)
    found = []
    for path in sorted(place.plans.glob("*.json")):
        plan = Plan.from_bytes(path.read_bytes())
        config = plan.config
        found.append(
            {
                "plan": plan.hash,
                "decision": approver.decide(plan.hash).why,
                "policy": settings.policy.objection(plan) or "meets this site's policy",
                "rounds": config.federation.rounds,
                "sites": config.partition.num_sites,
                "secure_aggregation": config.secure_aggregation.mode,
                "images": f"{config.data.image_size}x{config.data.channels}",
                "file": str(path),
            }
        )
    if output_format is Format.JSON:
        print_json(found)
        return
    if not found:
        console.print("no plan was offered yet")
    for each in found:
        console.print(json.dumps(each, indent=2), markup=False, soft_wrap=True)


@app.command()
def approve(
    folder: FolderArgument,
    plan: Annotated[
        str, typer.Argument(help="The plan's hash or the proposal's name, or how it begins.")
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The owner's key; default: approver.key in the site's folder."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="Days for which the approval is valid.")] = 90,
) -> None:
    """Sign a plan, after reading it; `site reject` or deleting the file in `approvals` withdraws.

    What it adds to the site's privacy budget is shown; a plan that does not fit is refused. One
    that is nearly an earlier one, on the same images with the same seed, is shown beside it.

    With `approver: syft`: sign exactly what `site review` showed last.
    """
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.run.plan import Plan
    from phoenix_secure.federation.site.approval import sign_approval

    place = SiteFolder(folder)
    owner = place.approver_identity(key or place.approver_key)
    if uses_pysyft(place):
        desk = open_desk(place)
        found = desk.find(plan)
        if found.proposal is not None:
            _show_budget(desk.budget().rows(found.proposal.plan))
            _warn_of_similar(desk.budget(), found.proposal.plan)
        path = desk.approve(found, owner=owner, days=days)
    else:
        offered = Plan.from_bytes((place.plans / f"{place.find_plan(plan)}.json").read_bytes())
        budget = _budget(place)
        _show_budget(budget.rows(offered))
        _warn_of_similar(budget, offered)
        budget.require_fit(offered)
        path = sign_approval(
            place.approvals,
            plan=offered.hash,
            site=place.settings().site,
            owner=owner,
            days=days,
        )
    console.print(f"approved for {days} days: {path}", soft_wrap=True)


@app.command()
def budget(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """Privacy budget for each data set: spent, reserved by approved plans, left."""
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    rows = _budget(SiteFolder(folder)).rows()
    if output_format is Format.JSON:
        print_json([row.to_dict() for row in rows])
        return
    if not rows:
        console.print("nothing was released under differential privacy, and no plan reserves any")
    _show_budget(rows)


def _budget(place: SiteFolder) -> SiteBudget:
    from phoenix_secure.federation.deployment.site_budget import SiteBudget

    if uses_pysyft(place):
        return open_desk(place).budget()
    settings = place.settings()
    return SiteBudget(place, policy=settings.policy, approver=place.approver(settings))


def _warn_of_similar(budget: SiteBudget, plan: Plan) -> None:
    for similar in budget.similar(plan):
        console.print(f"warning: {similar.warning}", markup=False, soft_wrap=True)


def _show_budget(rows: list[DataBudget]) -> None:
    if not rows:
        return
    table = Table(title=f"epsilon at delta = {rows[0].delta:g}")
    columns = ("spent", "reserved", "added", "together", "sum", "left")
    for column in ("data", "unit", *columns):
        table.add_column(column, justify="right" if column in columns else "left")
    for row in rows:
        left = "no limit" if row.left is None else f"{row.left:.4g} of {row.total:.4g}"
        figures = (row.spent, row.reserved, row.added, row.together, row.sum_of_epsilons)
        table.add_row(
            row.data,
            row.unit,
            *(f"{figure:.4g}" for figure in figures),
            left,
        )
    console.print(table)
    for unit, adjacency in sorted({(row.unit, row.adjacency) for row in rows}):
        console.print(f"per {unit}: {adjacency}", soft_wrap=True)


@app.command()
def log(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """Check the audit log from its first line on, and show it with its last hash."""
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    audit = SiteFolder(folder).audit()
    lines = audit.lines()
    if output_format is Format.JSON:
        print_json({"lines": lines, "last_hash": audit.last_hash})
        return
    for line in lines:
        facts = " ".join(str(line[k])[:40] for k in ("plan", "stage", "code") if k in line)
        # A reason is one line, and names who is to blame: never cut short.
        facts = f"{facts} {line['why']}" if "why" in line else facts
        console.print(f"{line['time']} {line['event']:<15} {facts}", markup=False, soft_wrap=True)
    console.print(f"{len(lines)} lines, unbroken; last hash {audit.last_hash}", soft_wrap=True)
