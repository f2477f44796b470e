"""The text / JSON choice and the two consoles that all commands share."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from phoenix_secure.printed_text import without_controls

__all__ = ["Format", "FormatOption", "console", "print_json"]


class Format(enum.StrEnum):
    """For people or for machines."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="[bold]text[/] for people, [bold]json[/] for machines.")
]


class _Console(Console):
    """Shows text without what turns the direction of writing, moves the cursor or clears the
    screen: names of folders and classes come from anywhere."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(without_controls(text), **options)


# Names and paths are the users' own: nothing in them is markup, or the name of a picture.
console = _Console(highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on one line of standard output."""
    typer.echo(json.dumps(value, sort_keys=True))
