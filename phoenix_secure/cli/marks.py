"""``phoenix-secure marks``: is this picture synthetic, and which model made it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption

__all__ = ["app"]

app = typer.Typer(
    help="Marks on synthetic images: IPTC's source type and signed content credentials (C2PA).",
    no_args_is_help=True,
)


@app.callback()
def _marks() -> None:
    """A group, so that there is room for further commands."""


@app.command()
def check(
    target: Annotated[
        Path, typer.Argument(help="A picture, or a folder with everything below it.")
    ],
    run: Annotated[
        Path | None,
        typer.Option(help="Ask more: signed by the key that this run's ledger names."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> int:
    """Say of each picture whether it is marked as synthetic, and whether it was changed since.

    Reads marks of any program. A picture without a mark may be synthetic all the same:
    whoever takes a screenshot, or saves it in another program, takes the marks away.

    Exit code 0: all pictures are marked; 5: one was changed since it was signed, or is not
    of that run; 8: one carries no mark; 10: there is no picture.
    """
    from phoenix_secure.cli import mark_checks

    return mark_checks.check(target.expanduser(), run=run, output_format=output_format)
