"""The page of a sweep: self-contained HTML, PNGs, CSV and JSON, rebuilt from what is on disk."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from phoenix_secure.experiments.exports import save_figure, save_table
from phoenix_secure.experiments.plots import draw_plots, figures_of
from phoenix_secure.experiments.points import Point
from phoenix_secure.experiments.results import gather, to_csv, to_json
from phoenix_secure.experiments.spec import SweepSpec
from phoenix_secure.experiments.spent import privacy_spent
from phoenix_secure.experiments.store import SweepFolder
from phoenix_secure.marks.marker import described_png

__all__ = ["save_plots", "save_rows", "write_report"]

Row = dict[str, Any]
_TITLES = {
    "point": "point",
    "status": "status",
    "unit": "unit",
    "epsilon": "epsilon",
    "delta": "delta",
    "kid": "KID",
    "kid_real": "KID of real",
    "precision": "precision",
    "recall": "recall",
    "accuracy_synthetic": "accuracy",
    "accuracy_real": "accuracy, real",
    "audit_verdict": "audit",
    "audit_attack": "attack",
    "audit_auc": "AUC",
    "audit_tpr_1": "TPR at 1 %",
    "training_seconds": "seconds",
}
_GRID_WIDTH = 320


def write_report(points: Sequence[Point], *, spec: SweepSpec, folder: SweepFolder) -> list[Row]:
    """Write report.html, report/*.png, results.csv, results.json and spent.json; the rows.

    Guarantee:  the page asks for nothing outside itself and holds no script.
    """
    rows = gather(points, folder=folder)
    spent = privacy_spent(points, folder=folder)
    drawn = draw_plots(rows, axes=spec.curve_axes, skew=spec.skew_axis)
    for name, (_, png) in drawn.items():
        folder.write(f"report/{name}.png", png)
    folder.write("results.json", to_json(rows))
    folder.write("results.csv", to_csv(rows))
    folder.write("spent.json", (json.dumps(spent, indent=2, sort_keys=True) + "\n").encode())
    environment = Environment(
        loader=PackageLoader("phoenix_secure.experiments"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = _cell
    page = environment.get_template("sweep.html.j2").render(
        title="Privacy and utility: what each point costs and what it leaves",
        rows=rows,
        done=sum(row["status"] == "done" for row in rows),
        failed=[row for row in rows if row["status"] == "failed"],
        units={(row["unit"], row["adjacency"], row["delta"]) for row in rows if row["unit"]},
        notices=_notices(rows),
        plots=[
            {"title": title, "data": base64.b64encode(png).decode()}
            for title, png in drawn.values()
        ],
        spent=spent,
        columns=_columns(rows),
        grids=_grids(points, folder),
    )
    folder.write("report.html", page.encode())
    return rows


def save_plots(
    rows: Sequence[Row], *, spec: SweepSpec, folder: SweepFolder, suffix: str
) -> list[Path]:
    """Every plot once more, for print: report/NAME with ``suffix``, such as .pdf.

    Raises:     ConfigError for a suffix that is no picture's; StorageError.
    """
    written = []
    for name, (_, figure) in figures_of(rows, axes=spec.curve_axes, skew=spec.skew_axis).items():
        if figure is not None:
            written.append(folder.path / "report" / f"{name}{suffix}")
            save_figure(figure, written[-1])
    return written


def save_rows(rows: Sequence[Row], path: Path) -> None:
    """The page's table, with its columns and its rounding: .csv, or .tex for booktabs.

    Raises:     ConfigError for another suffix; StorageError.
    """
    columns = _columns(rows)
    cells = [[_cell(row[each["name"]]) for each in columns] for row in rows]
    save_table([each["title"] for each in columns], cells, path)


def _columns(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The columns that hold any value."""
    present = [name for name in _TITLES if any(row.get(name) is not None for row in rows)]
    text = {name for name in present if any(isinstance(row[name], str) for row in rows)}
    return [{"name": name, "title": _TITLES[name], "is_text": name in text} for name in present]


def _notices(rows: Sequence[Row]) -> list[str]:
    notices = []
    missing = sum(row["status"] == "missing" for row in rows)
    if missing:
        notices.append(f"{missing} points have not been run yet: their rows are empty.")
    seeds = {row.get("label.seed") for row in rows}
    if len(seeds) < 3:
        notices.append(
            "Fewer than three seeds: differences between points may be chance. Add seeds before "
            "drawing conclusions."
        )
    return notices


def _grids(points: Sequence[Point], folder: SweepFolder) -> list[dict[str, str]]:
    """A small picture for each point whose run drew one."""
    grids = []
    for point in points:
        path = folder.point(point).run / "samples.png"
        if path.exists():
            grids.append({"point": point.name, "data": base64.b64encode(_small(path)).decode()})
    return grids


def _small(path: Path) -> bytes:
    with Image.open(path) as picture:
        picture.load()
        width = min(_GRID_WIDTH, picture.width)
        height = round(picture.height * width / picture.width)
        return described_png(picture.resize((width, height)))


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
