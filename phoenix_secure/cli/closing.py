"""``phoenix-secure site close-plans``: the way on for a site that lost what it promised."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_secure.cli.governing import FolderArgument
from phoenix_secure.cli.output import console

__all__ = ["close_plans"]


def close_plans(
    folder: FolderArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End every plan begun so far, after promises, ledger or keys were lost; for ever.

    First restore the newest copy of what is missing: then nothing ends. The site goes on with plans
    that are proposed and approved afterwards. The audit log says that this was done.
    """
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    place = SiteFolder(folder)
    place.settings()
    if not yes:
        _show(place.lost())
        try:
            agreed = typer.confirm("End every plan that this site has begun or approved?")
        except typer.Abort:
            agreed = False
        if not agreed:
            raise ConfigError("nothing was closed: answer y, or give --yes")
    plans = place.close_plans()
    for plan in plans:
        console.print(f"closed {plan}", soft_wrap=True)
    console.print(
        f"{len(plans)} plans closed; start the site again, and approve only plans that the server "
        "proposes from now on, with another seed",
        soft_wrap=True,
    )


def _show(lost: list[str]) -> None:
    for each in lost or ["every file is as the audit log says: nothing has to be closed"]:
        typer.echo(each)
    if any(each.startswith("privacy.jsonl") for each in lost):
        typer.echo(
            "privacy.jsonl holds what was released under differential privacy: without it budgets "
            "count from zero; lower policy.max_total_epsilon by what reports of earlier runs say"
        )
