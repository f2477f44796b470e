"""``phoenix-secure runs list`` and ``compare``: runs that are there, and what sets them apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phoenix_secure.cli.listing import print_listing
from phoenix_secure.cli.output import Format, FormatOption, console, print_json

if TYPE_CHECKING:
    from phoenix_secure.experiments.runs import RunRecord

__all__ = ["app", "compare"]

app = typer.Typer(help="The runs that are there, and how far they got.", no_args_is_help=True)


@app.callback()
def runs() -> None:
    """The runs that are there, and how far they got."""


@app.command("list")
def list_runs(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder that holds them; default runs.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show each run's state, guarantee, quality and audit; sweeps' runs are found, too."""
    from phoenix_secure.experiments.runs import find_runs, records_or_reasons

    # Nobody who has not run anything yet named a folder that is missing.
    is_new = folder is None and not Path("runs").exists()
    folder = folder or Path("runs")
    found = [] if is_new else list(records_or_reasons(list(find_runs(folder))))
    if output_format is Format.JSON:
        print_json([_line(path, each) for path, each in found])
        return
    if not found:
        console.print(f"no runs in {folder}: `phoenix-secure run demo` makes one", soft_wrap=True)
        return
    columns = ("run", "data", "sites", "rounds", "epsilon", "KID", "AUC")
    rows = []
    for path, each in found:
        name = str(path.relative_to(folder)) if path != folder else str(path)
        if isinstance(each, str):
            continue
        figures = each.figures()
        done, planned = each.rounds
        rows.append(
            [
                name,
                each.config.data.name,
                str(each.config.partition.num_sites),
                f"{done}" if each.status == "finished" else f"{done} of {planned}",
                *(_shown(figures[key]) for key in ("epsilon", "kid", "audit_auc")),
            ]
        )
    if rows:
        print_listing(columns, rows)
    for path, each in found:
        if isinstance(each, str):
            console.print(
                f"{path} can't be read: {each}", style="yellow", soft_wrap=True, markup=False
            )


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Two runs or more, or folders that hold them.", metavar="RUN RUN..."),
    ],
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw loss and KID of all into this .png, .pdf or .svg."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Write the table to this .csv or .tex.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Show side by side which settings of several runs differ, and what came out.

    Figures of attacks stand with their 95 % intervals. A dash: not measured, or not told by the
    sites. Guarantees of different units or deltas are not comparable; each row says its own.
    """
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.experiments.exports import save_run_curves, save_table
    from phoenix_secure.experiments.runs import differing_settings, find_runs, read_run

    # A folder that is no run and holds none is named by ``read_run``; one named twice counts once.
    named = [path for folder in folders for path in (list(find_runs(folder)) or [folder])]
    found = list({path.resolve(): path for path in named}.values())
    if len(found) < 2:
        raise ConfigError("one run has nothing to be compared with: name two or more")
    records = [read_run(path) for path in found]
    settings = differing_settings([each.config for each in records])
    figures = [each.figures() for each in records]
    names = _names(records)
    columns = ["", *names]
    rows = [[name, *values] for name, values in settings.items()]
    rows += [[label, *(show(each) for each in figures)] for label, show in _FIGURES.items()]
    if table is not None:
        save_table(columns, rows, table)
    if plot is not None:
        save_run_curves(
            {name: each.metrics for name, each in zip(names, records, strict=True)}, plot
        )
    if output_format is Format.JSON:
        print_json(
            {
                "runs": [str(path) for path in found],
                "settings": settings,
                "figures": figures,
            }
        )
        return
    print_listing(columns, rows)
    if not settings:
        console.print("all settings are the same")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_interval(name: str) -> Any:
    def show(figures: dict[str, Any]) -> str:
        value = figures[name]
        if value is None:
            return "-"
        return f"{value:.3f} [{figures[f'{name}_low']:.3f}, {figures[f'{name}_high']:.3f}]"

    return show


def _guarantee(figures: dict[str, Any]) -> str:
    if figures["epsilon"] is None:
        return _shown(figures["unit"])  # "none"; a dash where an early version said nothing
    return f"{figures['epsilon']:.4g} ({figures['unit']}, delta {figures['delta']:.3g})"


def _kid(figures: dict[str, Any]) -> str:
    if figures["kid"] is None:
        return "-"
    return f"{figures['kid']:.4f} ± {figures['kid_std']:.4f}"


_FIGURES = {
    "status": lambda figures: figures["status"],
    "rounds done": lambda figures: _shown(figures["rounds"]),
    "loss": lambda figures: _shown(figures["loss"]),
    "KID": _kid,
    "recall": lambda figures: _shown(figures["recall"]),
    "epsilon": _guarantee,
    "strongest attack": lambda figures: _shown(figures["audit_attack"]),
    "AUC": _with_interval("audit_auc"),
    "TPR at 1 % FPR": _with_interval("audit_tpr_1"),
    "seconds of training": lambda figures: _shown(figures["training_seconds"]),
    "bytes up": lambda figures: _shown(figures["bytes_up"]),
}


def _names(records: list[RunRecord]) -> list[str]:
    """The folders' own names where these tell the runs apart, else their paths."""
    paths = [each.path.resolve() for each in records]
    short = [path.name for path in paths]
    if len(set(short)) == len(short):
        return short
    above = os.path.commonpath(path.parent for path in paths)
    return [os.path.relpath(path, above) for path in paths]


def _line(path: Path, each: RunRecord | str) -> dict[str, Any]:
    if isinstance(each, str):
        return {"path": str(path), "status": "unreadable", "reason": each}
    config = each.config
    return {
        "path": str(path),
        "data": config.data.name,
        "sites": config.partition.num_sites,
        "planned_rounds": each.rounds[1],
        **each.figures(),
    }
