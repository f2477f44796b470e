"""``phoenix-secure doctor``: can this machine do what it will be asked?"""

from __future__ import annotations

import typer

from phoenix_secure.cli.output import Format, FormatOption, console, print_json

__all__ = ["doctor"]

_MARKS = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}


def doctor(output_format: FormatOption = Format.TEXT) -> None:
    """Check Python, libraries, processors, memory, disk, weights, data sets and clients.

    Ends with 1 when something needed is missing, and says what to do.
    """
    from phoenix_secure.cli.checks import all_checks

    checks = all_checks()
    if output_format is Format.JSON:
        print_json([{"name": c.name, "level": c.level, "message": c.message} for c in checks])
    else:
        for check in checks:
            console.print(f"{_MARKS[check.level]}  {check.name:<12} {check.message}")
    if any(check.level == "bad" for check in checks):
        raise typer.Exit(1)
