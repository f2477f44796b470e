"""``phoenix-secure config``: look at the settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption, console, print_json

app = typer.Typer(help="Show the settings and what each one means.", no_args_is_help=True)


@app.command()
def show(
    file: Annotated[
        Path | None, typer.Argument(help="YAML file or a shipped name; else the defaults.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes such as federation.rounds=3.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Print every setting after presets, file and overrides are applied."""
    from phoenix_secure.config_file import dump_config, load_config, require_once

    require_once(overrides or [])
    config = load_config(file, overrides or [])
    if output_format is Format.JSON:
        print_json(config.model_dump(mode="json"))
    else:
        typer.echo(dump_config(config), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings: names, types, bounds, units and sentences."""
    from phoenix_secure.config import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


@app.command()
def explain(
    setting: Annotated[
        str | None,
        typer.Argument(help="A section or setting, such as privacy or privacy.epsilon; else all."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Say what settings mean: default, unit, bounds, and a sentence on each."""
    from phoenix_secure.config.explained import explained

    entries = explained(setting)
    if output_format is Format.JSON:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        bounds = f", {entry.allowed}" if entry.allowed else ""
        console.print(f"{entry.name} = {entry.default}{bounds}", style="bold", soft_wrap=True)
        console.print(f"    {entry.meaning}", soft_wrap=True)
