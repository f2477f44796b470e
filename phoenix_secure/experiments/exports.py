"""Tables as CSV or LaTeX, and curves of several runs as PNG, PDF or SVG, by the file's suffix."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import replace_file, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PLOT_SUFFIXES", "TABLE_SUFFIXES", "save_figure", "save_run_curves", "save_table"]

TABLE_SUFFIXES = (".csv", ".tex")
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def save_table(columns: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> None:
    """Write ``rows`` to ``path``: .csv, or .tex for a booktabs table.

    Raises:     ConfigError for another suffix; StorageError.
    """
    match path.suffix.lower():
        case ".csv":
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows([columns, *rows])
            content = text.getvalue()
        case ".tex":
            content = _latex(columns, rows)
        case _:
            raise ConfigError(f"{path} must end in {' or '.join(TABLE_SUFFIXES)}")
    write_bytes(path, content.encode())


def save_run_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Loss and KID over rounds, a line for each run: name -> lines of metrics.jsonl.

    Raises:     ConfigError for a suffix that is no picture's; StorageError.
    """
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise ConfigError(f"{path} must end in {', '.join(PLOT_SUFFIXES)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, lines in runs.items():
        told = [(line["round_number"], line["loss"]) for line in lines if line["loss"] is not None]
        judged = [
            (line["round_number"], line["quality"]["rows"]["generated"]["kid"])
            for line in lines
            if line.get("quality")
        ]
        left.plot(*_columns(told), ".-", label=name)
        right.plot(*_columns(judged), "o-", label=name)
    left.set(xlabel="round", ylabel="training loss")
    right.set(xlabel="round", ylabel="KID (lower is better)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if not any(len(line.get_xdata()) for line in axes.lines):
            axes.text(0.5, 0.5, "no run tells it", ha="center", transform=axes.transAxes)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its file's suffix says.

    Guarantee:  equal figures give equal bytes: no date is written.
    Raises:     ConfigError for a suffix that is no picture's; StorageError.
    """
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise ConfigError(f"{path} must end in {', '.join(PLOT_SUFFIXES)}")
    from matplotlib import rc_context

    facts = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix.lower())

    def write(temporary: Path) -> None:
        # The ids inside an SVG are random without a salt.
        with rc_context({"svg.hashsalt": "phoenix-secure"}):
            figure.savefig(temporary, format=path.suffix[1:].lower(), metadata=facts)

    replace_file(path, write)


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _latex(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in (columns, *rows)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(cell: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in cell)
