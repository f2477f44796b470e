"""Privacy-utility sweeps: many runs from one file, resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from phoenix_secure.api.results import png_html, table_html
from phoenix_secure.config_file import find_config
from phoenix_secure.device import num_cores
from phoenix_secure.experiments.points import Point, expand, shard_of
from phoenix_secure.experiments.pool import WorkerPool, available_cores, slots_of
from phoenix_secure.experiments.report import write_report
from phoenix_secure.experiments.spec import SweepSpec, load_spec
from phoenix_secure.experiments.store import SweepFolder
from phoenix_secure.experiments.sweep import PointReport, check_measurable, run_points

__all__ = ["SweepResult", "points_of", "sweep"]

_SHOWN = ("point", "status", "epsilon", "kid", "accuracy_synthetic", "audit_auc")


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The rows of a sweep, as results.json has them, and its folder with tables and plots."""

    rows: list[dict[str, Any]] = field(repr=False)
    folder: Path

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The rows of points that failed; their ``reason`` says why."""
        return [row for row in self.rows if row["status"] == "failed"]

    def _repr_html_(self) -> str:
        rows = [
            tuple(
                f"{value:.4g}" if isinstance(value, float) else str(value or "-")
                for value in (row[name] for name in _SHOWN)
            )
            for row in self.rows
        ]
        plots = "".join(png_html(path.read_bytes()) for path in sorted(self.folder.glob("*.png")))
        return table_html(_SHOWN, rows) + plots


def sweep(
    file: str | Path,
    *,
    out: str | Path,
    num_workers: int | None = None,
    shard: str | None = None,
    on_event: Callable[[PointReport], object] = lambda report: None,
) -> SweepResult:
    """Run every point of a sweep file that has no result in ``out`` yet.

    num_workers   points at a time; by default one a GPU, else one a core
    shard         "2/5" runs the second fifth: for several machines over one folder
    on_event      is called, from several threads, as points start and end

    Guarantee:    a finished point is never run again; a killed one goes on from its last round.
    Raises:       ConfigError naming the key. A point that fails is a row with its reason.
    """
    found, spec, everything = _read(file)
    points = shard_of(everything, shard)
    folder = SweepFolder(Path(out).expanduser())
    folder.keep(spec, base_folder=found.parent)
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    size = min(num_workers or num_gpus or num_cores(), len(points))
    pool = WorkerPool(slots_of(num_workers=size, num_gpus=num_gpus, cores=available_cores()))
    run_points(points, spec=spec, folder=folder, pool=pool, report=on_event)
    rows = write_report(everything, spec=spec, folder=folder)
    return SweepResult(rows=list(rows), folder=folder.path)


def points_of(file: str | Path, *, shard: str | None = None) -> list[Point]:
    """The points that ``sweep`` would run, those with a result too.

    Raises:       ConfigError naming the key.
    """
    return shard_of(_read(file)[2], shard)


def _read(file: str | Path) -> tuple[Path, SweepSpec, list[Point]]:
    """A sweep file where it was found, what it says, and its points."""
    found = find_config(file)
    spec = load_spec(found)
    everything = expand(spec, folder=found.parent)
    check_measurable(everything, spec)
    return found, spec, everything
