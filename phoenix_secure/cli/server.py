"""``phoenix-secure server``: the coordinator's side of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.joining import server_init, server_join, show_pending
from phoenix_secure.cli.output import Format, FormatOption
from phoenix_secure.cli.words import tell
from phoenix_secure.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(help="The coordinator's side of a federation.", no_args_is_help=True)


app.command("init")(server_init)
app.command("join")(server_join)


@app.command()
def start(
    folder: Annotated[str, typer.Argument(help="The server's folder, or the federation's name.")],
) -> None:
    """Keep SuperLink (loopback only) and Fleet proxy running until Ctrl-C or SIGTERM."""
    from phoenix_secure.cli.service import say, stop_event
    from phoenix_secure.federation.deployment.server_folder import find_server_folder
    from phoenix_secure.federation.deployment.server_process import ServerProcess

    found = find_server_folder(folder)
    if (way := found.settings().folder) is not None:
        raise ConfigError(
            f"this federation's messages travel in the folder {way} (server.yaml): nothing is to "
            "be started here; use `phoenix-secure run ... --federation`"
        )
    process = ServerProcess(found, say=say)
    settings = process.settings
    say(f"server of {settings.federation}: sites connect to {settings.address}")
    say(f"roster fingerprint: {process.fingerprint}")
    process.run(stop_event())
    say("stopped")


@app.command()
def show(
    folder: Annotated[str, typer.Argument(help="The server's folder, or the federation's name.")],
    output_format: FormatOption = Format.TEXT,
) -> None:
    """The server's address and the roster's fingerprint, to be compared by telephone.

    Of a server that has not joined yet: the words of its request, for the federation's owner.
    """
    from phoenix_secure.federation.deployment.fingerprints import Fingerprint
    from phoenix_secure.federation.deployment.held_rosters import roster_history
    from phoenix_secure.federation.deployment.server_folder import find_server_folder

    if show_pending(Path(folder), output_format=output_format):
        return
    place = find_server_folder(folder)
    settings, chain = place.settings(), place.rosters()
    roster = chain.current
    tell(
        {
            "federation": settings.federation,
            "address": settings.folder or settings.address,
            "words": Fingerprint(roster.hash).words,
            "fingerprint": roster.fingerprint,
            "members": [site for site, _ in roster.members],
            **roster_history(chain),
        },
        output_format=output_format,
    )
