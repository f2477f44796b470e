"""The work behind ``sweep`` and ``downstream``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from phoenix_secure.api import sweeps
from phoenix_secure.cli.durations import duration
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.cli.plan import plan_of_all
from phoenix_secure.config import RunConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.device import pick_devices
from phoenix_secure.errors import CheckpointError, ConfigError, TrainingError
from phoenix_secure.experiments.downstream import downstream_accuracy
from phoenix_secure.experiments.exports import PLOT_SUFFIXES
from phoenix_secure.experiments.points import Point, expand
from phoenix_secure.experiments.report import save_plots, save_rows, write_report
from phoenix_secure.experiments.spec import load_spec
from phoenix_secure.experiments.store import SweepFolder
from phoenix_secure.experiments.sweep import PointReport
from phoenix_secure.files import write_bytes

__all__ = ["downstream", "report", "run"]


def run(
    file: Path,
    *,
    out: Path,
    num_workers: int | None,
    shard: str | None,
    dry_run: bool,
    output_format: Format,
) -> None:
    """Run a sweep, or list its points."""
    if dry_run:
        _print_plans(sweeps.points_of(file, shard=shard), output_format=output_format)
        return
    try:
        with _Display(sweeps.points_of(file, shard=shard), output_format=output_format) as display:
            done = sweeps.sweep(
                file, out=out, num_workers=num_workers, shard=shard, on_event=display.show
            )
    except KeyboardInterrupt:
        if output_format is Format.TEXT:
            console.print("stopped; the same command goes on where this one ended")
        raise
    rows, folder = done.rows, SweepFolder(done.folder)
    _print_rows(rows, folder=folder, output_format=output_format)
    failed = [row["point"] for row in rows if row["status"] == "failed"]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(rows)} points failed, such as {failed[0]} (see its reason in "
            f"{folder.path / 'results.csv'}): fix the cause, and the same command tries them again"
        )


def report(path: Path, *, plots: str | None, table: Path | None, output_format: Format) -> None:
    """Rebuild the report of a sweep; also its plots and table for print."""
    suffix = None if plots is None else f".{plots.lstrip('.').lower()}"
    if suffix not in (None, *PLOT_SUFFIXES):
        raise ConfigError(f"--plots {plots}: give pdf, svg or png")
    folder = SweepFolder(path)
    if not folder.spec_file.exists():
        raise CheckpointError(f"{path} is no sweep: sweep.yaml is missing")
    spec = load_spec(folder.spec_file)
    rows = write_report(expand(spec, folder=path), spec=spec, folder=folder)
    if table is not None:
        save_rows(rows, table)
    if suffix is not None:
        save_plots(rows, spec=spec, folder=folder, suffix=suffix)
    _print_rows(rows, folder=folder, output_format=output_format)


def downstream(
    run_dir: Path,
    *,
    num_images: int,
    epochs: int,
    device: str,
    out: Path | None,
    output_format: Format,
) -> None:
    """Measure downstream accuracy."""
    found = downstream_accuracy(
        run_dir,
        num_images=num_images,
        epochs=epochs,
        cache_dir=default_cache_dir(),
        device=pick_devices(device)[0],
    )
    if out is not None:
        write_bytes(out, (json.dumps(found, indent=2, sort_keys=True) + "\n").encode())
    if output_format is Format.JSON:
        print_json(found)
    else:
        console.print(
            f"accuracy on {found['num_test']:,} real held-out images: "
            f"{found['accuracy_synthetic']:.1%} after training on {found['num_synthetic']:,} "
            f"synthetic images, {found['accuracy_real']:.1%} on {found['num_real']:,} real ones"
        )


class _Display:
    """A table of points on a terminal, a line for each event elsewhere, JSON lines for machines."""

    def __init__(self, points: Sequence[Point], *, output_format: Format) -> None:
        self._as_json = output_format is Format.JSON
        self._states = {point.name: "waiting" for point in points}
        self._is_live = console.is_terminal and not self._as_json
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2)
        self._lock = threading.Lock()

    def __enter__(self) -> _Display:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_live:
            self._live.stop()

    def show(self, event: PointReport) -> None:
        """Called from the pool's threads."""
        words = {"started": "running", "kept": "kept from before"}.get(event.what, event.what)
        if event.what in ("done", "failed"):
            words += f" after {event.seconds:.0f} s"
        with self._lock:
            self._states[event.point.name] = f"{words} {event.reason}".strip()
            if self._as_json:
                print_json(
                    {
                        "event": event.what,
                        "point": event.point.name,
                        "seconds": round(event.seconds, 3),
                        "reason": event.reason,
                    }
                )
            elif not self._is_live:
                console.print(f"{event.point.name}: {self._states[event.point.name]}")

    def _render(self) -> Group:
        states = list(self._states.items())
        waiting = sum(state == "waiting" for _, state in states)
        ended = sum(state.startswith(("done", "kept", "failed")) for _, state in states)
        shown = [item for item in states if item[1] == "running" or item[1].startswith("failed")]
        table = Table.grid(padding=(0, 2))
        for name, state in shown[-20:]:
            table.add_row(name, state)
        head = f"{ended} of {len(states)} points ended, {waiting} waiting"
        return Group(head, table)


def _print_plans(points: Sequence[Point], *, output_format: Format) -> None:
    """One line a point. Points that differ in seed or epsilon alone are measured once; of a release
    with steps after it, both phases are."""
    measured: dict[str, dict[str, Any]] = {}
    plans: list[dict[str, Any]] = []
    for point in points:
        key = _cost_key(point.config)
        if key not in measured:
            measured[key] = plan_of_all(point.config)
        plans.append({"point": point.name, "plan": measured[key], "privacy": _privacy_of(point)})
    total = sum(entry["plan"]["estimated_total_seconds"] for entry in plans)
    if output_format is Format.JSON:
        print_json({"points": plans, "estimated_total_seconds": total})
        return
    table = Table(title=f"{len(plans)} points")
    for column in ("point", "privacy", "MB up a round", "time"):
        table.add_column(
            column,
            justify="left" if column in ("point", "privacy") else "right",
            overflow="fold",  # a name that is cut off cannot be looked for
        )
    for entry in plans:
        plan = entry["plan"]
        table.add_row(
            entry["point"],
            entry["privacy"],
            f"{plan['bytes_up_per_round'] / 1e6:,.1f}",
            duration(plan["estimated_total_seconds"]),
        )
    console.print(table)
    console.print(
        f"about {duration(total)} one after the other, without audits and downstream classifiers"
    )


def _privacy_of(point: Point) -> str:
    privacy = point.config.privacy
    if privacy.unit == "none":
        return "none"
    if privacy.epsilon is not None:
        return f"{privacy.unit}, epsilon {privacy.epsilon:g}, delta {privacy.delta:g}"
    return f"{privacy.unit}, noise {privacy.noise_multiplier:g}, delta {privacy.delta:g}"


def _cost_key(config: RunConfig) -> str:
    values = config.model_dump(mode="json", exclude={"seed": True, "privacy": {"epsilon", "delta"}})
    return json.dumps(values, sort_keys=True)


def _print_rows(
    rows: Sequence[dict[str, Any]], *, folder: SweepFolder, output_format: Format
) -> None:
    if output_format is Format.JSON:
        print_json({"event": "finished", "out": str(folder.path), "rows": list(rows)})
        return
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("point", lambda row: str(row["point"])),
        ("status", lambda row: str(row["status"])),
        ("epsilon", lambda row: _figure(row["epsilon"])),
        ("KID", lambda row: _figure(row["kid"])),
        ("accuracy", lambda row: _figure(row["accuracy_synthetic"])),
        ("attack AUC", lambda row: _figure(row["audit_auc"])),
    ]
    table = Table()
    for title, _ in columns:
        table.add_column(title)
    for row in rows:
        table.add_row(*(cell(row) for _, cell in columns))
    console.print(table)
    console.print(f"report: {folder.path / 'report.html'}   table: {folder.path / 'results.csv'}")


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-"
