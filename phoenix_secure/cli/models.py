"""``phoenix-secure models``: keep models that runs start from, and pass models on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption, console, print_json

app = typer.Typer(
    help="Keep the models that runs start from, and pass models on.", no_args_is_help=True
)


@app.callback()
def models() -> None:
    """Keep the models that runs start from, and pass models on."""


@app.command()
def add(
    model: Annotated[
        str,
        typer.Argument(help="A run's folder, a diffusers DDPM or DDIM folder, or hf://OWNER/NAME."),
    ],
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Keep a model on this machine, so that a plan that starts from it can run here.

    The hash is that of the plan: `model.init_from=sha256:HASH`.
    """
    from phoenix_secure.federation.run.start import add_model

    start = add_model(model)
    if output_format is Format.JSON:
        print_json(start.model_dump(mode="json"))
        return
    console.print(f"kept: sha256:{start.sha256}", soft_wrap=True)


@app.command()
def bundle(
    model: Annotated[Path, typer.Argument(help="A run folder, or a diffusers DDPM/DDIM folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder. Default: monai-bundle in the run.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Write a model as a MONAI bundle, the format of models in medical imaging.

    Whoever opens it needs MONAI and diffusers, and nothing of this program.
    """
    from phoenix_secure.api.models import export_bundle

    written = export_bundle(model, out)
    if output_format is Format.JSON:
        print_json({"bundle": str(written)})
        return
    console.print(f"written: {written}", soft_wrap=True)
