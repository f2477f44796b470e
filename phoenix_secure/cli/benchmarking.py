"""The work behind ``benchmark``: rows from options, progress, and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from phoenix_secure.api import benchmarks
from phoenix_secure.api.benchmarks import RowReport
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.experiments.benchmarks import dfd_mnist, dp_images
from phoenix_secure.experiments.benchmarks.row import BenchmarkRow, choice
from phoenix_secure.experiments.benchmarks.table import form_of, markdown, read_rows
from phoenix_secure.federation.round.report import FitReport, RoundReport, RunEvent

__all__ = ["dfd_rows", "dp_rows", "print_markdown", "run"]

_FORMS = (dp_images.FORM, dfd_mnist.FORM)


def dp_rows(
    *,
    datasets: Sequence[str],
    settings: Sequence[str],
    trusts: Sequence[str],
    methods: Sequence[str],
    epsilons: Sequence[float],
    seeds: Sequence[int],
    num_images: int,
    overrides: Sequence[str],
) -> list[dp_images.Row]:
    """The rows of ``dp-images`` that the options ask for.

    Raises:     ConfigError naming the option.
    """
    return dp_images.plan_rows(
        datasets=datasets,
        settings=[choice(dp_images.Setting, each, option="--setting") for each in settings],
        trusts=[choice(dp_images.Trust, each, option="--trust") for each in trusts],
        methods=[choice(dp_images.Method, each, option="--method") for each in methods],
        epsilons=epsilons,
        seeds=seeds,
        num_images=num_images,
        overrides=overrides,
    )


def dfd_rows(
    *,
    dataset: str,
    methods: Sequence[str],
    partitions: Sequence[str],
    epsilons: Sequence[str],
    seeds: Sequence[int],
    num_images: int,
    overrides: Sequence[str],
) -> list[dfd_mnist.Row]:
    """The rows of ``dfd-mnist`` that the options ask for.

    Raises:     ConfigError naming the option.
    """
    return dfd_mnist.plan_rows(
        dataset=dataset,
        methods=[choice(dfd_mnist.Method, each, option="--method") for each in methods],
        partitions=[choice(dfd_mnist.Partition, each, option="--partition") for each in partitions],
        epsilons=[dfd_mnist.epsilon_of(each) for each in epsilons],
        seeds=seeds,
        num_images=num_images,
        overrides=overrides,
    )


def _print_rows(rows: Sequence[BenchmarkRow], *, out: Path, output_format: Format) -> None:
    """What would run, and about how long: rows that differ in seed or epsilon are measured once."""
    measured: dict[str, tuple[float, float]] = {}
    plans: list[dict[str, Any]] = []
    for row in rows:
        is_done = (out / row.name / "result.json").exists()
        if not is_done and _cost_key(row) not in measured:
            measured[_cost_key(row)] = benchmarks.row_seconds(row)
        run_s, judge_s = (0.0, 0.0) if is_done else measured[_cost_key(row)]
        plans.append(
            {
                "row": row.name,
                "command": row.command,
                "delta": row.delta,
                "is_done": is_done,
                "run_seconds": round(run_s),
                "judging_seconds": round(judge_s),
            }
        )
    total = sum(plan["run_seconds"] + plan["judging_seconds"] for plan in plans)
    if output_format is Format.JSON:
        print_json({"rows": plans, "seconds": total})
        return
    table = Table(title=f"{len(plans)} rows, in {out}")
    for column in ("row", "delta", "run, s", "judging, s"):
        table.add_column(column, overflow="fold", justify="left" if column == "row" else "right")
    for plan in plans:
        times = ["done", ""]
        if not plan["is_done"]:
            times = [f"{plan['run_seconds']:,}", f"{plan['judging_seconds']:,}"]
        delta = "" if plan["delta"] is None else f"{plan['delta']:g}"
        table.add_row(plan["row"], delta, *times)
    console.print(table)
    console.print(
        f"about {total / 3600:.1f} hours one after the other on this machine as busy as it is now; "
        "sampling from diffusion models comes on top"
    )


def print_markdown(csv: Path) -> None:
    """The table as documents have it.

    Raises:     ConfigError where there is no row, or the table is of no benchmark.
    """
    if not csv.exists():
        raise ConfigError(f"no table {csv}: `phoenix-secure benchmark --help` says what makes one")
    form = form_of(csv, forms=_FORMS)
    rows = read_rows(csv, form=form)
    if not rows:
        raise ConfigError(f"{csv} holds no row: run `phoenix-secure benchmark {form.command}`")
    console.print(markdown(rows, form=form), soft_wrap=True)


def run(
    rows: Sequence[BenchmarkRow],
    *,
    out: Path,
    csv: Path,
    device: str,
    dry_run: bool,
    output_format: Format,
    inception_weights: Path | None = None,
) -> None:
    """Run the rows, and print what came out; with ``dry_run`` what would run."""
    if dry_run:
        _print_rows(rows, out=out, output_format=output_format)
        return
    try:
        with _Display(len(rows), output_format=output_format) as display:
            done = benchmarks.run_rows(
                rows,
                out=out,
                csv=csv,
                device=device,
                inception_weights=inception_weights,
                on_report=display.show,
            )
    except KeyboardInterrupt:
        if output_format is Format.TEXT:
            console.print("stopped; the same command goes on where this one ended")
        raise
    if output_format is Format.JSON:
        print_json({"event": "finished", "csv": str(csv), "rows": done.rows, "failed": done.failed})
    else:
        if done.rows:
            console.print(markdown(done.rows, form=rows[0].form), soft_wrap=True)
        console.print(f"table: {csv}   runs and images: {out}", soft_wrap=True)
    if done.failed:
        raise TrainingError(
            f"{len(done.failed)} of {len(rows)} rows failed, such as {done.failed[0]}: fix the "
            "cause, and the same command tries them again"
        )


class _Display:
    """Two bars on a terminal, a line for each row elsewhere, JSON lines for machines."""

    def __init__(self, num_rows: int, *, output_format: Format) -> None:
        self._as_json = output_format is Format.JSON
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            disable=self._as_json or not console.is_terminal,
        )
        self._rows = self._bars.add_task("rows", total=num_rows, text=f"0/{num_rows}")
        self._row = self._bars.add_task("", total=None, text="", visible=False)
        self._num_rows, self._ended = num_rows, 0

    def __enter__(self) -> _Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, report: RowReport) -> None:
        if report.event is not None:
            self._advance(report.event)
            return
        if report.what in ("sampling", "judging"):
            self._bars.update(self._row, total=None, text=f"{report.what}: {report.text}")
            return
        if report.what == "started":
            self._bars.reset(self._row, description=report.row.name, text="", visible=True)
        else:
            self._ended += 1
            self._bars.update(
                self._rows, completed=self._ended, text=f"{self._ended}/{self._num_rows}"
            )
            self._bars.update(self._row, visible=False)
        self._say(report)

    def _advance(self, event: RunEvent) -> None:
        match event:
            case FitReport():
                self._bars.update(
                    self._row,
                    completed=event.step,
                    total=event.num_steps,
                    text=f"{event.what} {event.step}/{event.num_steps}, loss {event.loss:.4f}",
                )
            case RoundReport():
                self._bars.update(self._row, text=f"round {event.round_number}")

    def _say(self, report: RowReport) -> None:
        if self._as_json:
            print_json({"event": report.what, "row": report.row.name, "reason": report.text})
            return
        words = {"kept": "kept from before", "elsewhere": "another process is at it"}
        text = words.get(report.what, report.what)
        if report.what == "done" and report.result is not None:
            cells = (f"{each.title} {report.result[each.name]}" for each in report.row.form.shown)
            text = ", ".join(cells)
        console.print(f"{report.row.name}: {text} {report.text}".rstrip(), soft_wrap=True)


def _cost_key(row: BenchmarkRow) -> str:
    values = row.config.model_dump(mode="json", exclude={"seed": True, "privacy": {"epsilon"}})
    return json.dumps([values, row.num_images], sort_keys=True)
