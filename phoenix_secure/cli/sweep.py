"""``phoenix-secure sweep`` and ``downstream``: the arguments (the work is in ``sweeping``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from phoenix_secure.cli.output import Format, FormatOption

__all__ = ["app", "downstream"]


class _RunByDefault(TyperGroup):
    """``sweep FILE`` is ``sweep run FILE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Many runs over a grid of settings: quality, use and risk against epsilon.",
)

_OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the sweep; default runs/NAME-OF-FILE.")
]


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(help="YAML file such as configs/sweep_privacy_utility.yaml.")
    ],
    out: _OutOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Points at once; default one a GPU, or a core."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="Run only share I/N, such as 2/8, into a shared folder."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List points, epsilon, bytes and estimated time.")
    ] = False,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Run every point that has no result yet, then write report.html, PNGs, CSV and JSON.

    Can be stopped at any time (Ctrl-C, kill -9, power) and started again with the same command:
    finished points are kept, interrupted ones go on from their last round. `sweep FILE` is short
    for `sweep run FILE`.
    """
    from phoenix_secure.cli import sweeping

    sweeping.run(
        file,
        out=out or Path("runs") / file.stem,
        num_workers=workers,
        shard=shard,
        dry_run=dry_run,
        output_format=output_format,
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep, finished or not.")],
    plots: Annotated[
        str | None,
        typer.Option("--plots", help="Also write every plot as pdf or svg, in FOLDER/report."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", help="Also write the page's table to this .csv or .tex."),
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Rebuild report.html, the PNGs, results.csv and results.json from what has been run."""
    from phoenix_secure.cli import sweeping

    sweeping.report(folder, plots=plots, table=table, output_format=output_format)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep, running or not.")],
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show how far each point has got; nothing is run or written."""
    from phoenix_secure.cli import sweep_status

    sweep_status.status(folder, output_format=output_format)


def downstream(
    run_dir: Annotated[
        Path, typer.Argument(help="A finished class-conditional run, or a release.")
    ],
    num_images: Annotated[
        int, typer.Option("--num", min=10, help="Synthetic images to train the classifier on.")
    ] = 2000,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over them.")] = 8,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the figures as JSON.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Train a classifier on synthetic images alone and test it on real ones that were held out.

    Beside it the same classifier trained on as many real training images.
    """
    from phoenix_secure.cli import sweeping

    sweeping.downstream(
        run_dir,
        num_images=num_images,
        epochs=epochs,
        device=device,
        out=out,
        output_format=output_format,
    )
