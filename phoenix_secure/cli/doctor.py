"""``phoenix-secure doctor``: can this machine do what it will be asked?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.text import Text

from phoenix_secure.cli.output import Format, FormatOption, console, print_json
from phoenix_secure.errors import ConfigError

__all__ = ["doctor"]

_MARKS = {"ok": "green", "note": "yellow", "bad": "red"}


class _Finding(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def message(self) -> str: ...


def doctor(
    federation: Annotated[
        str | None,
        typer.Option(
            "--federation", help="Probe a federation: its name, its server's or a site's folder."
        ),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option("--via", help="folder:PATH that messages travel in; with --federation."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Check Python, libraries, processors, memory, disk, weights, data sets and clients.

    With --federation: keys, versions, clocks, and what an outsider can reach at the server, or the
    folder that messages travel in.
    Ends with 1 when something needed is missing, and says what to do.
    """
    if via is not None and federation is None:
        raise ConfigError("--via needs --federation, whose folder is to be checked")
    checks = _machine() if federation is None else _federation(federation, via)
    if output_format is Format.JSON:
        print_json([{"name": c.name, "level": c.level, "message": c.message} for c in checks])
    else:
        for check in checks:
            mark = (f"{check.level:<4}", _MARKS[check.level])
            console.print(Text.assemble(mark, f"  {check.name:<12} {check.message}"))
    if any(check.level == "bad" for check in checks):
        raise typer.Exit(1)


def _machine() -> Sequence[_Finding]:
    from phoenix_secure.cli.checks import all_checks

    return all_checks()


def _federation(name: str, via: str | None) -> Sequence[_Finding]:
    from phoenix_secure.federation.deployment.exchange_folder import parse_via
    from phoenix_secure.federation.deployment.probe import probe_server, probe_site
    from phoenix_secure.federation.deployment.server_folder import find_server_folder
    from phoenix_secure.federation.deployment.site_folder import SiteFolder

    root = None if via is None else parse_via(via)
    if (Path(name) / "site.yaml").is_file():
        return probe_site(SiteFolder(Path(name)), via=root)
    return probe_server(find_server_folder(name), via=root)
