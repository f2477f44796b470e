"""Runs on a disk: which there are, how far each got, and what sets several apart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_written
from phoenix_secure.errors import CheckpointError, PhoenixError
from phoenix_secure.experiments.results import audit_figures, privacy_figures, quality_figures
from phoenix_secure.federation.run.extension import extended
from phoenix_secure.federation.run.metrics_file import read_metrics
from phoenix_secure.federation.run.summary import RunSummary, read_summary

__all__ = ["RunRecord", "differing_settings", "find_runs", "read_run", "records_or_reasons"]

_CONFIG = "config.yaml"
# Other programs have a config.yaml, too. A run's stands beside one of these from its first moment.
_BESIDE = {".lock", "versions.json", "metrics.jsonl", "summary.json", "checkpoints"}
_DEPTH = 4  # folders below the one that is searched: a sweep has its runs in points/NAME/run
# Settings that say where something lies or how it is shown, and nothing of what was trained.
_APART = ("output.",)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run, finished or not; figures of what was not measured are None.

    status    ``finished``, or ``unfinished``: `resume` goes on
    rounds    done so far, and in all
    metrics   the lines of metrics.jsonl
    """

    path: Path
    config: RunConfig
    status: str
    rounds: tuple[int, int]
    summary: RunSummary | None
    metrics: Sequence[dict[str, Any]]

    def figures(self) -> dict[str, Any]:
        """Loss, quality, guarantee and the strongest attack of the run's own audit."""
        losses = [line["loss"] for line in self.metrics if line.get("loss") is not None]
        return {
            "status": self.status,
            "rounds": self.rounds[0],
            "loss": losses[-1] if losses else None,
            **quality_figures(self.summary),
            **privacy_figures(self.summary),
            **audit_figures(self.path / "audit"),
            "training_seconds": self.summary and self.summary.training_seconds,
            "bytes_up": self.summary and self.summary.bytes_up,
        }


def find_runs(folder: Path) -> Iterator[Path]:
    """The run folders in ``folder``, itself included, by name; no link is followed.

    Raises:     CheckpointError when there is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder: name the one that holds the runs")
    depth = len(folder.parts)
    for place, folders, files in os.walk(folder):
        path = Path(place)
        if _CONFIG in files and _BESIDE.intersection((*files, *folders)):
            yield path
            folders.clear()
        folders[:] = sorted(folders) if len(path.parts) - depth < _DEPTH else []


def read_run(path: Path) -> RunRecord:
    """The run in ``path``, as its files say.

    Raises:     CheckpointError for a folder of something else, or damaged files; ConfigError for
                settings that this version does not take.
    """
    if not (path / _CONFIG).is_file():
        raise CheckpointError(f"{path} is not a run folder: config.yaml is missing")
    config = extended(load_written(path / _CONFIG), path / "extended.json")
    summary = read_summary(path) if (path / "summary.json").exists() else None
    metrics = read_metrics(path / "metrics.jsonl")
    done = metrics[-1]["round_number"] if metrics else 0
    if summary is not None:
        done = max(done, summary.rounds)
    return RunRecord(
        path=path,
        config=config,
        status="unfinished" if summary is None else "finished",
        rounds=(done, config.federation.rounds),
        summary=summary,
        metrics=metrics,
    )


def differing_settings(configs: Sequence[RunConfig]) -> dict[str, list[str]]:
    """Settings that are not the same in all ``configs``: name -> each one's value as text.

    A section that is off in one run and on in another shows setting by setting.
    """
    flat = [dict(_flat(config.model_dump(mode="json"), prefix="")) for config in configs]
    names = dict.fromkeys(name for values in flat for name in values)
    rows = {name: [values.get(name, "-") for values in flat] for name in names}
    return {
        name: values
        for name, values in rows.items()
        if len(set(values)) > 1 and not name.startswith(_APART)
    }


def _flat(values: dict[str, Any], *, prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def records_or_reasons(paths: Sequence[Path]) -> Iterator[tuple[Path, RunRecord | str]]:
    """Each run, or one line on why it cannot be read."""
    for path in paths:
        try:
            yield path, read_run(path)
        except PhoenixError as error:
            yield path, str(error)
