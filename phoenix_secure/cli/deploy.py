"""``phoenix-secure deploy``: set up a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.founding import admit, found, show, sign
from phoenix_secure.cli.meeting import (
    HostOption,
    NameOption,
    PortOption,
    SuiteName,
    SuiteOption,
    ViaOption,
)
from phoenix_secure.cli.membership import resume, revoke, suspend
from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.cli.proposing import propose

__all__ = ["app"]

app = typer.Typer(help="Set up a federation for deployment.", no_args_is_help=True)


app.command()(found)
app.command()(admit)
app.command()(suspend)
app.command()(resume)
app.command()(revoke)
app.command()(sign)
app.command()(show)
app.command()(propose)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New folder for keys, roster and settings.")],
    sites: Annotated[
        int | None, typer.Option("--sites", min=1, max=1000, help="Number of sites, site-01, ...")
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="Name of a site; once for each.")
    ] = None,
    name: NameOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 9443,
    superlink_port: Annotated[
        int, typer.Option("--superlink-port", help="Loopback port on the server.")
    ] = 9093,
    via: ViaOption = None,
    rehearsal: Annotated[
        bool,
        typer.Option(
            "--rehearsal", help="Sites take shares of a public data set, on this machine."
        ),
    ] = False,
    supernode_port: Annotated[
        int, typer.Option("--supernode-port", help="First loopback port of a rehearsal's sites.")
    ] = 9100,
    days: Annotated[int, typer.Option("--days", help="Validity of the TLS certificate.")] = 365,
    suite: SuiteOption = SuiteName.CLASSICAL,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Make a whole federation in one place, every party's keys included: for rehearsals and trials.

    Whoever runs this sees all secrets. Where the images are real, each party makes its own keys:
    `deploy found`, `site init`, `server init`. Each site's folder holds that site's secrets and
    nobody else's.
    """
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.deployment.exchange_folder import parse_via
    from phoenix_secure.federation.deployment.initialise import (
        Deployment,
        initialise,
        numbered_sites,
    )

    if (sites is None) == (not site):
        raise ConfigError("give either --sites COUNT or --site NAME for each site")
    names = tuple(site) if site else tuple(numbered_sites(sites or 0))
    deployment = Deployment(
        federation=name or folder.resolve().name,
        sites=names,
        host=host,
        port=port,
        superlink_port=superlink_port,
        first_supernode_port=supernode_port,
        rehearsal=rehearsal,
        days=days,
        suite=suite.value,
        folder=None if via is None else str(parse_via(via)),
    )
    roster = initialise(folder, deployment)
    if output_format is Format.JSON:
        print_json(
            {"folder": str(folder), "sites": sorted(names), "fingerprint": roster.fingerprint}
        )
        return
    console.print(f"federation {deployment.federation} with {len(names)} sites in {folder}")
    console.print(f"roster fingerprint: {roster.fingerprint}", soft_wrap=True)
    if deployment.warning is not None:
        console.print(deployment.warning, style="yellow", soft_wrap=True)
    console.print(f"what to do next: {folder / 'federation.md'}")
    console.print(
        "this machine has seen the keys of every party: for rehearsals and trials. Between real "
        "owners each makes its own: `phoenix-secure deploy found --help`",
        style="yellow",
        soft_wrap=True,
    )
