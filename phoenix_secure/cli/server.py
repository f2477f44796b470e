"""``phoenix-secure server``: the coordinator's side of a federation."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_secure.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(help="The coordinator's side of a federation.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Keeps ``start`` a command of its own while it is the only one."""


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
