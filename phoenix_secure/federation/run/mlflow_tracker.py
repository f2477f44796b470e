"""MLflow: one MLflow run for each run folder, also after a resume."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.tracked_settings import tracked_settings
from phoenix_secure.files import write_bytes

__all__ = ["MLflow"]

_EXPERIMENT = "phoenix-secure"
_DATABASE = "sqlite:///"
# MLflow's own names. It tries for more than four minutes: right for a server that is away for a
# moment in a long run, and not for an address that was wrong from the start.
_FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@contextlib.contextmanager
def _first_contact() -> Iterator[None]:
    """Without MLflow's patience, unless the environment asks for it."""
    ours = {name: value for name, value in _FIRST_CONTACT.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


class MLflow:
    """Parameters, metrics and sample grids at the server or in the database ``uri``.

    Raises:     ConfigError where the extra is not installed or ``uri`` cannot be used.
    """

    def __init__(self, config: RunConfig, *, uri: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        try:
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ConfigError(
                "output.mlflow needs the extra: pip install 'phoenix-secure[mlflow]'"
            ) from error
        self._metric = Metric
        self._params = [
            Param(name, str(value)[:500]) for name, value in tracked_settings(config).items()
        ]
        try:
            with _first_contact():
                self._client = MlflowClient(tracking_uri=uri)
                found = self._client.get_experiment_by_name(_EXPERIMENT)
                self._experiment = (
                    found.experiment_id
                    if found
                    else self._client.create_experiment(
                        _EXPERIMENT, artifact_location=_beside_database(uri)
                    )
                )
        except MlflowException as error:
            raise ConfigError(
                f"output.mlflow = {uri} cannot be used ({str(error).splitlines()[0][:200]}): name "
                "a server (http://...) or a database (sqlite:///runs/mlflow.db)"
            ) from error

    def log(self, folder: Path, *, step: int, numbers: Mapping[str, float]) -> None:
        """A point of each number."""
        metrics = [
            # A time of its own would make the same round of a resumed run a second point.
            self._metric(name, float(value), timestamp=step, step=step)
            for name, value in numbers.items()
        ]
        self._client.log_batch(self._run_of(folder), metrics=metrics)

    def show(self, folder: Path, *, step: int, picture: Path) -> None:
        """The file itself, among the run's artifacts."""
        self._client.log_artifact(self._run_of(folder), str(picture), artifact_path="samples")

    def close(self, folder: Path, *, numbers: Mapping[str, float]) -> None:
        """Mark the run as finished; a resumed one goes on in it all the same."""
        self._client.set_terminated(self._run_of(folder))

    def _run_of(self, folder: Path) -> str:
        """The MLflow run of a run folder: a resumed run goes on in it."""
        file = folder / "mlflow.json"
        if file.exists():
            return str(json.loads(file.read_text(encoding="utf-8"))["run_id"])
        run = self._client.create_run(self._experiment, run_name=folder.name)
        self._client.log_batch(run.info.run_id, params=self._params)
        write_bytes(file, json.dumps({"run_id": run.info.run_id}).encode())
        return str(run.info.run_id)


def _beside_database(uri: str) -> str | None:
    """Where artifacts go: beside the database, not in the working directory; a server knows."""
    if not uri.startswith(_DATABASE):
        return None
    database = Path(uri.removeprefix(_DATABASE)).absolute()
    return (database.parent / "mlflow-artifacts").as_uri()
