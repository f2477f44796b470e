"""``phoenix-secure site``: what the owner of images runs, reads and signs."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_secure.cli.approving import approve, show_budget, site_budget
from phoenix_secure.cli.closing import close_plans
from phoenix_secure.cli.governing import (
    FolderArgument,
    open_desk,
    publish,
    reject,
    review,
    show_facts,
    uses_pysyft,
)
from phoenix_secure.cli.joining import show_pending, site_init, site_join
from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.cli.owner_page import ui
from phoenix_secure.cli.renewing import pending_renewal, renew
from phoenix_secure.cli.words import tell

__all__ = ["app"]

app = typer.Typer(help="A data owner's side of a federation.", no_args_is_help=True)
app.command("init")(site_init)
app.command("join")(site_join)
app.command()(renew)
app.command()(approve)
app.command()(publish)
app.command()(review)
app.command()(reject)
app.command()(close_plans)
app.command()(ui)


@app.command()
def start(
    folder: FolderArgument,
    via: Annotated[
        str | None,
        typer.Option("--via", help="folder:PATH that messages travel in, whatever site.yaml says."),
    ] = None,
) -> None:
    """Keep the site running until Ctrl-C or SIGTERM; it serves approved plans only."""
    from phoenix_secure.api.pooled_audits import site_examiner
    from phoenix_secure.cli.service import say, stop_event
    from phoenix_secure.federation.deployment.exchange_folder import parse_via
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.deployment.site_process import SiteProcess

    place = SiteFolder(folder)
    approver = open_desk(place).approver() if uses_pysyft(place) else None
    root = None if via is None else parse_via(via)
    process = SiteProcess(place, say=say, approver=approver, via=root, make_examiner=site_examiner)
    settings = process.settings
    way = f"folder {settings.folder}" if settings.server is None else f"server {settings.server}"
    say(f"{settings.site} of {settings.federation}: {way}")
    say(f"roster fingerprint: {process.fingerprint}")
    process.run(stop_event())
    say("stopped")


@app.command()
def show(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """The site's name, policy and the roster's fingerprint, to be compared by telephone.

    Of a site that has not joined yet, or renews its keys: the words of its request, for the
    federation's owner.
    """
    from phoenix_secure.federation.deployment.fingerprints import Fingerprint
    from phoenix_secure.federation.deployment.held_rosters import roster_history
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    if show_pending(folder, output_format=output_format):
        return
    place = SiteFolder(folder)
    settings, chain = place.settings(), place.rosters()
    roster = chain.current
    facts = {
        "site": settings.site,
        "federation": settings.federation,
        "server": settings.server or settings.folder,
        "words": Fingerprint(roster.hash).words,
        "fingerprint": roster.fingerprint,
        "members": [site for site, _ in roster.members],
        **roster_history(chain),
        **pending_renewal(folder),
        "policy": settings.policy.model_dump(mode="json"),
    }
    tell(facts, output_format=output_format)


@app.command()
def plans(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """The plans that were offered: bounds, changed settings, what policy and owner say to each."""
    from phoenix_secure.federation.deployment.site_folder import SiteFolder
    from phoenix_secure.federation.site.plan_sheet import PlanSheet

    place = SiteFolder(folder)
    settings = place.settings()
    approver = open_desk(place).approver() if uses_pysyft(place) else place.approver(settings)
    found = []
    for path in sorted(place.plans.glob("*.json")):
        sheet = PlanSheet.of(place.offered(path.stem), policy=settings.policy)
        decision = approver.decide(path.stem).why
        found.append({"decision": decision, "file": str(path), **sheet.facts()})
    if output_format is Format.JSON:
        print_json(found)
        return
    if not found:
        console.print("no plan was offered yet")
    for facts in found:
        show_facts(f"plan {facts['plan']}", facts)


@app.command()
def budget(folder: FolderArgument, output_format: FormatOption = Format.TEXT) -> None:
    """Privacy budget for each data set: spent, reserved by approved plans, left."""
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    rows = site_budget(SiteFolder(folder)).rows()
    if output_format is Format.JSON:
        print_json([row.to_dict() for row in rows])
        return
    if not rows:
        console.print("nothing was released under differential privacy, and no plan reserves any")
    show_budget(rows)


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
