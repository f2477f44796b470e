"""``phoenix-secure site approve``: a plan is shown whole, and signed when its owner says yes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from phoenix_secure.cli.governing import (
    FolderArgument,
    confirm,
    open_desk,
    show_facts,
    uses_pysyft,
)
from phoenix_secure.cli.output import console

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.site_budget import SiteBudget
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.run.plan import Plan
    from phoenix_secure.federation.site.approval import Identity
    from phoenix_secure.federation.site.budget import DataBudget

__all__ = ["approve", "show_budget", "site_budget"]


def approve(
    folder: FolderArgument,
    plan: Annotated[
        str, typer.Argument(help="The plan's hash, or at least its first 16 hexadecimal digits.")
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The owner's key; default: approver.key in the site's folder."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="Days for which the approval is valid.")] = 90,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask; for scripts, which name the plan's whole hash."),
    ] = False,
) -> None:
    """Show a plan and sign it; `site reject` or deleting the file in `approvals` withdraws.

    What it adds to the site's privacy budget is shown; a plan that does not fit is refused. One
    that is nearly an earlier one, on the same images with the same seed, is shown beside it.

    With `approver: syft`: sign exactly what `site review` showed last.
    """
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.site.approval import require_digits

    place = SiteFolder(folder)
    require_digits(plan, asks=not yes)
    owner = place.approver_identity(key or place.approver_key)
    sign = _approve_proposal if uses_pysyft(place) else _approve_offered
    path = sign(place, plan, owner=owner, days=days, ask=not yes)
    console.print(f"approved for {days} days: {path}", soft_wrap=True)


def _approve_offered(
    place: SiteFolder, plan: str, *, owner: Identity, days: int, ask: bool
) -> Path:
    """Sign a plan that the server offered (`approver: file`)."""
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.site.approval import sign_approval
    from phoenix_secure.federation.site.plan_sheet import PlanSheet

    settings = place.settings()
    offered = place.offered(place.find_plan(plan))
    place.require_open(offered.hash)
    sheet = PlanSheet.of(offered, policy=settings.policy)
    show_facts(f"plan {offered.hash}", sheet.facts())
    if sheet.objections:
        raise ConfigError(
            f"the plan cannot be approved: {'; '.join(sheet.objections)}; this site would refuse "
            "it all the same"
        )
    budget = site_budget(place)
    show_budget(budget.rows(offered))
    _warn_of_similar(budget, offered)
    budget.require_fit(offered)
    _ask(offered.hash, days=days, ask=ask)
    place.audit().record("approved", plan=offered.hash, days=days)
    return sign_approval(
        place.approvals, plan=offered.hash, site=settings.site, owner=owner, days=days
    )


def _approve_proposal(
    place: SiteFolder, plan: str, *, owner: Identity, days: int, ask: bool
) -> Path:
    """Sign a proposal that came through PySyft (`approver: syft`)."""
    desk = open_desk(place)
    found = desk.find_plan(plan)
    show_facts(str(found.job.name), found.facts())
    if found.proposal is not None:
        place.require_open(found.proposal.plan.hash)
        show_budget(desk.budget().rows(found.proposal.plan))
        _warn_of_similar(desk.budget(), found.proposal.plan)
        desk.require_approvable(found)
        _ask(found.proposal.plan.hash, days=days, ask=ask)
    return desk.approve(found, owner=owner, days=days)


def _ask(plan: str, *, days: int, ask: bool) -> None:
    if ask:
        confirm(f"Sign plan {plan}, exactly as shown above, for {days} days?")


def site_budget(place: SiteFolder) -> SiteBudget:
    """The budget of a site, whichever way its plans are approved."""
    from phoenix_secure.federation.deployment.site_budget import SiteBudget

    if uses_pysyft(place):
        return open_desk(place).budget()
    settings = place.settings()
    return SiteBudget(place, policy=settings.policy, approver=place.approver(settings))


def _warn_of_similar(budget: SiteBudget, plan: Plan) -> None:
    from phoenix_secure.federation.site.plan_sheet import one_line

    for similar in budget.similar(plan):
        typer.echo(f"warning: {one_line(similar.warning)}")


def show_budget(rows: list[DataBudget]) -> None:
    """A row for each data set."""
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
