"""Benchmarks of the field: rows, each one run and the worth of its images."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phoenix_secure.api import models, runs
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.device import pick_devices
from phoenix_secure.errors import PhoenixError
from phoenix_secure.experiments.benchmarks.judging import judge_images, judging_seconds
from phoenix_secure.experiments.benchmarks.row import BenchmarkRow, Outcome
from phoenix_secure.experiments.benchmarks.table import add_row, locked
from phoenix_secure.experiments.store import PointFolder
from phoenix_secure.federation.round.report import RunEvent
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.phases import first_folder
from phoenix_secure.federation.secagg import privacy_plan
from phoenix_secure.federation.simulation.estimate import run_seconds
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

__all__ = ["BenchmarkResult", "RowReport", "row_seconds", "run_rows"]

_CPU = "cpu.json"
_CPU_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RowReport:
    """Progress of one row, for the screen.

    what    started, sampling, judging, kept, done, failed, or elsewhere: another process is at it
    """

    row: BenchmarkRow
    what: str
    text: str = ""
    event: RunEvent | None = None
    result: dict[str, Any] | None = None


OnReport = Callable[[RowReport], object]


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """The results of the rows that are there now, as each row's result.json has them."""

    rows: list[dict[str, Any]] = field(repr=False)
    csv: Path
    failed: list[str] = field(default_factory=list)


def run_rows(
    rows: Sequence[BenchmarkRow],
    *,
    out: str | Path,
    csv: str | Path,
    device: str = "auto",
    inception_weights: str | Path | None = None,
    on_report: OnReport = lambda report: None,
) -> BenchmarkResult:
    """Run every row that has no result in ``out`` yet, and add it to the table ``csv``.

    ::

        out/ROW/run/          an ordinary run        out/ROW/gen.npz     images, labels, class_names
        out/ROW/result.json   figures and settings   out/ROW/cpu.json    CPU seconds so far

    Guarantee:    a finished row is never run again, whatever the process; a killed one goes on from
                  its last checkpoint, to the same figures. Processes share ``out``: each takes the
                  rows that no other works on. A row that fails is reported and tried again by the
                  next call.
    Raises:       ConfigError for a ``csv`` of something else; StorageError.
    """
    folder, table = Path(out).expanduser(), Path(csv).expanduser()
    found, failed = [], []
    for row in rows:
        place = folder / row.name
        with locked(place / ".benchmark.lock", wait=False) as is_ours:
            if not is_ours:
                on_report(RowReport(row=row, what="elsewhere"))
                continue
            result = PointFolder(place).read("result.json")
            if result is None:
                on_report(RowReport(row=row, what="started"))
                try:
                    with _known_delta():
                        result = _run_row(
                            row,
                            place,
                            device=device,
                            inception_weights=inception_weights,
                            on_report=on_report,
                        )
                except PhoenixError as error:
                    failed.append(row.name)
                    on_report(RowReport(row=row, what="failed", text=str(error)))
                    continue
                on_report(RowReport(row=row, what="done", result=result))
            else:
                on_report(RowReport(row=row, what="kept", result=result))
            add_row(table, result, form=row.form)
            found.append(result)
    return BenchmarkResult(rows=found, csv=table, failed=failed)


def row_seconds(row: BenchmarkRow) -> tuple[float, float]:
    """Seconds of a row's run and of judging its images on this machine, from a few measured steps.

    Raises:       ConfigError, DataError: whatever is wrong with the row.
    """
    config = row.config
    phases = [config]
    if config.release.is_first_of_two:
        phases = [config.release_phase(), config.steps_phase(None)]
    with _known_delta():
        found = [SimulatedSites(each, cache_dir=default_cache_dir()) for each in phases]
    judging = judging_seconds(
        found[0].partition.image_set,
        num_images=row.num_images,
        device=found[0].devices[0],
        pixel_classifiers=row.pixel_classifiers,
    )
    return sum(run_seconds(sites) for sites in found), judging


def _run_row(
    row: BenchmarkRow,
    place: Path,
    *,
    device: str,
    inception_weights: str | Path | None,
    on_report: OnReport,
) -> dict[str, Any]:
    run = place / "run"
    with _counted(PointFolder(place)) as count:

        def report(event: RunEvent) -> None:
            count()
            on_report(RowReport(row=row, what="running", event=event))

        if not (run / "summary.json").exists():
            if RunFolder(run).config_file.exists():
                runs.resume(run, on_event=report, progress=False)
            else:
                runs.run(row.config, run_dir=run, on_event=report, progress=False)
    archive = place / "gen.npz"
    if not archive.exists():
        on_report(RowReport(row=row, what="sampling", text=f"{row.num_images:,} images"))
        samples = models.sample(run, row.num_images, seed=row.seed, device=device)
        samples.export(archive, layout="npz")
    figures = judge_images(
        archive,
        run=run,
        seed=row.seed,
        cache_dir=default_cache_dir(),
        device=pick_devices(device)[0],
        pixel_classifiers=row.pixel_classifiers,
        inception_weights=None if inception_weights is None else Path(inception_weights),
        progress=lambda stage: on_report(RowReport(row=row, what="judging", text=stage)),
    )
    phases = [first_folder(run), run] if row.config.release.is_first_of_two else [run]
    guarantees = (runs.open_run(phase).summary.guarantee for phase in phases)
    outcome = Outcome(
        figures=figures,
        guarantees=tuple(each for each in guarantees if each is not None),
        core_hours=_cpu_seconds(PointFolder(place)) / 3600,
    )
    result = {**row.cells(outcome), "figures": figures.to_dict(), "digest": row.digest}
    PointFolder(place).write("result.json", result)
    return result


@contextmanager
def _known_delta() -> Iterator[None]:
    """Do not say for every site of every row that delta is above 1/images^2: the protocol's is."""

    def is_news(record: logging.LogRecord) -> bool:
        return record.msg != privacy_plan.LARGE_DELTA

    log = logging.getLogger(privacy_plan.__name__)
    log.addFilter(is_news)
    try:
        yield
    finally:
        log.removeFilter(is_news)


@contextmanager
def _counted(files: PointFolder) -> Iterator[Callable[[], None]]:
    """Add this process' CPU seconds to the file ``path``, as it goes and at the end: a process that
    is killed loses a few seconds of them at most."""
    before, started, written = _cpu_seconds(files), time.process_time(), time.monotonic()

    def write() -> None:
        nonlocal written
        written = time.monotonic()
        files.write(_CPU, {"cpu_seconds": before + time.process_time() - started})

    def count() -> None:
        if time.monotonic() - written > _CPU_EVERY_S:
            write()

    try:
        yield count
    finally:
        write()


def _cpu_seconds(files: PointFolder) -> float:
    return float((files.read(_CPU) or {"cpu_seconds": 0.0})["cpu_seconds"])
