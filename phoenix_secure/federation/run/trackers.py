"""Optional trackers beside metrics.jsonl, which is always written.

A tracker gets what metrics.jsonl gets: nothing about one site, and no metric that differential
privacy keeps at the sites.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.extensions import ExtensionPoint, extension
from phoenix_secure.files import write_bytes

__all__ = ["metrics_writer"]

Write = Callable[[Path, dict[str, Any]], None]


def metrics_writer(config: RunConfig) -> Write:
    """A function that hands a line of metrics to every tracker that the settings name.

    Raises:     ConfigError when one is asked for and its extra is not installed.
    """
    writers: list[Write] = []
    if config.output.tensorboard:
        writers.append(_tensorboard())
    if config.output.mlflow is not None:
        writers.append(_mlflow(config, uri=config.output.mlflow))
    writers += [extension(ExtensionPoint.TRACKER, name) for name in config.output.trackers]

    def write(folder: Path, line: dict[str, Any]) -> None:
        for each in writers:
            each(folder, line)

    return write


def _tensorboard() -> Write:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "output.tensorboard needs the extra: pip install 'phoenix-secure[tensorboard]'"
        ) from error

    def write(folder: Path, line: dict[str, Any]) -> None:
        with SummaryWriter(folder / "tensorboard") as writer:
            for name, value in _numbers(line).items():
                writer.add_scalar(name, value, line["round_number"])

    return write


def _mlflow(config: RunConfig, *, uri: str) -> Write:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    try:
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ConfigError(
            "output.mlflow needs the extra: pip install 'phoenix-secure[mlflow]'"
        ) from error
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name("phoenix-secure")
        experiment = found.experiment_id if found else client.create_experiment("phoenix-secure")
    except MlflowException as error:
        raise ConfigError(
            f"output.mlflow = {uri} cannot be used ({str(error).splitlines()[0][:200]}): name a "
            "server (http://...) or a database (sqlite:///runs/mlflow.db)"
        ) from error

    def run_of(folder: Path) -> str:
        """The MLflow run of a run folder: a resumed run goes on in it."""
        file = folder / "mlflow.json"
        if file.exists():
            return str(json.loads(file.read_text(encoding="utf-8"))["run_id"])
        run = client.create_run(experiment, run_name=folder.name)
        settings = _flat(config.model_dump(mode="json"))
        client.log_batch(
            run.info.run_id,
            params=[Param(name, str(value)[:500]) for name, value in settings.items()],
        )
        write_bytes(file, json.dumps({"run_id": run.info.run_id}).encode())
        return str(run.info.run_id)

    def write(folder: Path, line: dict[str, Any]) -> None:
        step = line["round_number"]
        metrics = [
            # A time of its own would make the same round of a resumed run a second point.
            Metric(name, float(value), timestamp=step, step=step)
            for name, value in _numbers(line).items()
        ]
        client.log_batch(run_of(folder), metrics=metrics)

    return write


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in line.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "round_number"
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
