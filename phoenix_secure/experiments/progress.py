"""How far a sweep has got: read from its folder alone, while it runs or after it was stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median

from phoenix_secure.errors import CheckpointError, PhoenixError
from phoenix_secure.experiments.points import Point, expand
from phoenix_secure.experiments.runs import read_run
from phoenix_secure.experiments.spec import SweepSpec, load_spec
from phoenix_secure.experiments.store import PointFolder, SweepFolder

__all__ = ["PointState", "PointStatus", "SweepStatus", "sweep_status"]


class PointState(StrEnum):
    """Where a point stands. Whether anybody works on an unfinished one, its files cannot show."""

    DONE = "done"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    WAITING = "waiting"
    OTHER_SETTINGS = "other settings"  # its folder holds another point's work


@dataclass(frozen=True, kw_only=True, slots=True)
class PointStatus:
    """One point.

    rounds    done so far, and in all; None before its run began
    steps     that are still to do: run, downstream, audit
    seconds   that a finished one took
    silent_s  since an unfinished one last wrote to its log
    reason    why it failed, why its folder cannot be used, or what is gone of it
    """

    point: str
    state: PointState
    rounds: tuple[int, int] | None = None
    steps: tuple[str, ...] = ()
    seconds: float | None = None
    silent_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepStatus:
    """All points, in the sweep's order.

    dropped   folders of points that the sweep no longer names: what they spent is spent
    """

    points: tuple[PointStatus, ...]
    dropped: tuple[str, ...]

    def count(self, state: PointState) -> int:
        """Points in this state."""
        return sum(each.state is state for each in self.points)

    @property
    def seconds_left(self) -> float | None:
        """Of one worker, if open points take as long as finished ones did; None without any."""
        took = [each.seconds for each in self.points if each.seconds is not None]
        num_open = len(self.points) - self.count(PointState.DONE)
        return median(took) * num_open if took else None


def sweep_status(path: Path) -> SweepStatus:
    """What the files in the folder of a sweep say; nothing is written.

    Raises:     CheckpointError for a folder of something else; ConfigError for a sweep that this
                version does not take.
    """
    folder = SweepFolder(path)
    if not folder.spec_file.exists():
        raise CheckpointError(f"{path} is no sweep: sweep.yaml is missing")
    spec = load_spec(folder.spec_file)
    points = expand(spec, folder=path)
    named = {point.name for point in points}
    return SweepStatus(
        points=tuple(_status(point, spec=spec, files=folder.point(point)) for point in points),
        dropped=tuple(
            each.path.name for each in folder.point_folders() if each.path.name not in named
        ),
    )


def _status(point: Point, *, spec: SweepSpec, files: PointFolder) -> PointStatus:
    try:
        done = files.result_of(point)
    except PhoenixError as error:
        return PointStatus(point=point.name, state=PointState.OTHER_SETTINGS, reason=str(error))
    rounds = _rounds(files)
    if done is not None:
        return PointStatus(
            point=point.name,
            state=PointState.DONE,
            rounds=rounds,
            seconds=done.get("seconds"),
            reason="" if files.run.is_dir() else "its run is gone; its figures are kept",
        )
    steps = tuple(_open_steps(spec, files))
    result = files.read("result.json")
    if result is not None:
        return PointStatus(
            point=point.name,
            state=PointState.FAILED,
            rounds=rounds,
            steps=steps,
            reason=str(result.get("reason") or ""),
        )
    if files.read("point.json") is None:
        return PointStatus(point=point.name, state=PointState.WAITING, steps=steps)
    return PointStatus(
        point=point.name,
        state=PointState.UNFINISHED,
        rounds=rounds,
        steps=steps,
        silent_s=_silent(files.log),
    )


def _rounds(files: PointFolder) -> tuple[int, int] | None:
    try:
        return read_run(files.run).rounds
    except PhoenixError:
        return None


def _open_steps(spec: SweepSpec, files: PointFolder) -> Sequence[str]:
    steps = {
        "run": files.run_summary() is None,
        "downstream": spec.downstream.num_images > 0 and files.read("downstream.json") is None,
        "audit": spec.audit != "none" and not (files.audit / "audit.json").exists(),
    }
    return [name for name, is_open in steps.items() if is_open]


def _silent(log: Path) -> float | None:
    try:
        return max(0.0, time.time() - log.stat().st_mtime)
    except OSError:
        return None
