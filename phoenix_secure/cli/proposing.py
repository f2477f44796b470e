"""``phoenix-secure deploy propose``: a plan put before the owners of images, through PySyft."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.meeting import ViaOption
from phoenix_secure.cli.output import Format, FormatOption, console, print_json

__all__ = ["propose"]


class Release(enum.StrEnum):
    """The recipients of the trained model."""

    CONSORTIUM = "consortium"
    PARTNERS = "partners"
    PUBLIC = "public"


def propose(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings of the run.")],
    federation: Annotated[
        str, typer.Option("--federation", help="The federation: its name or its server's folder.")
    ],
    purpose: Annotated[
        str, typer.Option("--purpose", help="Purpose of the model, in one line; owners read it.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes such as federation.rounds=3.")
    ] = None,
    via: ViaOption = None,
    release: Annotated[
        Release, typer.Option("--release", help="The recipients of the trained model.")
    ] = Release.CONSORTIUM,
    syftbox: Annotated[
        Path | None, typer.Option("--syftbox", help="Submit the jobs to this SyftBox folder.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", help="Only write each site's files here, for your own PySyft client."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the job; default: from the plan's hash.")
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option("--coordinator", help="Your e-mail in PySyft; default: server@...invalid."),
    ] = None,
    owner: Annotated[
        list[str] | None,
        typer.Option("--owner", help="SITE=EMAIL, where a site has its own address in PySyft."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Put a plan before every site as a signed PySyft job; nothing runs before owners consent.

    Say --via here if `run` will be told it: where people carry messages, waiting times that nobody
    set are days, and owners approve those of the plan.
    """
    from phoenix_secure.cli.governing import need_address, need_pysyft
    from phoenix_secure.cli.session import load_deployment_config
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.deployment.exchange_folder import parse_via
    from phoenix_secure.federation.deployment.server_folder import find_server_folder

    if (syftbox is None) == (write is None):
        raise ConfigError("give either --syftbox FOLDER or --write FOLDER")
    owners = {}
    for text in owner or []:
        site, separator, address = text.partition("=")
        if not separator:
            raise ConfigError(f"--owner takes SITE=EMAIL, got {text!r}")
        owners[site] = need_address(address)
    need_pysyft()
    from phoenix_secure.governance.propose import Proposer, job_name

    server = find_server_folder(federation)
    root = server.settings().folder if via is None else parse_via(via)
    settings = load_deployment_config(
        config,
        overrides or [],
        members=len(server.roster().members),
        is_carried=root is not None,
    )
    proposer = Proposer(settings, server=server, release=release.value, purpose=purpose)
    made = {}
    if write is not None:
        made = proposer.write(write)
    elif syftbox is not None:
        made = proposer.submit(
            syftbox,
            name=name or job_name(proposer.plan),
            coordinator=None if coordinator is None else need_address(coordinator),
            owners=owners,
        )
    if output_format is Format.JSON:
        print_json(
            {
                "plan": proposer.plan.hash,
                "proposals": {site: str(path) for site, path in made.items()},
            }
        )
        return
    console.print(f"plan {proposer.plan.hash}", soft_wrap=True)
    for site, path in made.items():
        console.print(f"{site:<16} {path}", markup=False, soft_wrap=True)
