"""Run the points of a sweep: train, evaluate, test downstream, attack; resumable."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.config_file import dump_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.points import Point
from phoenix_secure.experiments.pool import Slot, WorkerPool
from phoenix_secure.experiments.spec import SweepSpec
from phoenix_secure.experiments.store import PointFolder, SweepFolder
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.files import storage_errors, write_bytes

__all__ = ["PointReport", "check_measurable", "run_points"]

_PROGRAM = (sys.executable, "-m", "phoenix_secure")
# Codes of ``audit`` that are findings, not failures: nothing found, leak found, inconclusive.
_AUDIT_VERDICTS = (0, 3, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class PointReport:
    """Progress of one point, for the screen."""

    point: Point
    what: str  # started, kept, done, failed
    seconds: float = 0.0
    reason: str = ""


def run_points(
    points: Sequence[Point],
    *,
    spec: SweepSpec,
    folder: SweepFolder,
    pool: WorkerPool,
    report: Callable[[PointReport], object],
) -> None:
    """Run what has no result yet.

    Guarantee:  a finished point is never run again; a killed one goes on from its last round, to
                the same figures; a failed one is reported, kept as failed and does not stop the
                others. It is tried again by the next call.
    Raises:     ConfigError when the folder holds another sweep's points.
    """
    missing = []
    for point in points:
        if folder.point(point).result_of(point) is None:
            missing.append(point)
        else:
            report(PointReport(point=point, what="kept"))
    pool.map(
        [
            lambda slot, point=point: _run_point(  # type: ignore[misc]
                point, spec=spec, files=folder.point(point), pool=pool, slot=slot, report=report
            )
            for point in missing
        ]
    )


def _run_point(
    point: Point,
    *,
    spec: SweepSpec,
    files: PointFolder,
    pool: WorkerPool,
    slot: Slot,
    report: Callable[[PointReport], object],
) -> None:
    started = time.perf_counter()
    report(PointReport(point=point, what="started"))
    with storage_errors(files.path):
        files.path.mkdir(parents=True, exist_ok=True)
    about = {"labels": dict(point.labels), "settings_digest": point.digest}
    files.write("point.json", about)
    failure = _work(point, spec=spec, files=files, pool=pool, slot=slot)
    seconds = time.perf_counter() - started
    if failure is None:
        files.write("result.json", {**about, "status": "done", "seconds": seconds})
        report(PointReport(point=point, what="done", seconds=seconds))
    else:
        files.write("result.json", {**about, "status": "failed", "reason": failure})
        report(PointReport(point=point, what="failed", seconds=seconds, reason=failure))


def _work(
    point: Point, *, spec: SweepSpec, files: PointFolder, pool: WorkerPool, slot: Slot
) -> str | None:
    """Every step that is still to do; what failed, or None."""
    for name, command, good in _steps(point, spec=spec, files=files):
        code = pool.run([*_PROGRAM, *command], slot=slot, log=files.log)
        if code not in good:
            return f"{name} ended with code {code}: {_last_line(files.log)}"
    return None


def _steps(
    point: Point, *, spec: SweepSpec, files: PointFolder
) -> list[tuple[str, list[str], tuple[int, ...]]]:
    run = RunFolder(files.run)
    steps: list[tuple[str, list[str], tuple[int, ...]]] = []
    if not (files.run / "summary.json").exists():
        if run.config_file.exists():
            steps.append(("run", ["resume", str(files.run)], (0,)))
        else:
            settings = files.path / "settings.yaml"
            write_bytes(settings, dump_config(point.config).encode())
            steps.append(("run", ["run", str(settings), "--run-dir", str(files.run)], (0,)))
    downstream = spec.downstream
    if downstream.num_images > 0 and files.read("downstream.json") is None:
        command = ["downstream", str(files.run), "--num", str(downstream.num_images)]
        command += [
            "--epochs",
            str(downstream.epochs),
            "--out",
            str(files.path / "downstream.json"),
        ]
        steps.append(("downstream", command, (0,)))
    if spec.audit != "none" and not (files.audit / "audit.json").exists():
        command = ["audit", str(files.run), "--profile", spec.audit, "--out", str(files.audit)]
        steps.append(("audit", command, _AUDIT_VERDICTS))
    return steps


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return f"{lines[-1].strip()[:300]} (see {log})" if lines else f"see {log}"


def check_measurable(points: Sequence[Point], spec: SweepSpec) -> None:
    """Refuse before the first run what would fail after the last.

    Raises:     ConfigError naming the point and the setting.
    """
    for point in points:
        if spec.downstream.num_images > 0 and not point.config.model.class_conditional:
            raise ConfigError(
                f"point {point.name}: downstream accuracy needs labels: set "
                "model.class_conditional=true, or downstream.num_images to 0"
            )
