"""Trackers: the same numbers as metrics.jsonl, in the reader's own tool, also after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.trackers import metrics_writer
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites


@pytest.mark.long
def test_mlflow_gets_every_round_once_and_a_resumed_run_goes_on_in_the_same(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    config = load_config(None, [*tiny_settings, f"output.mlflow={uri}"])
    folder = RunFolder(tmp_path / "run")
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    steps = federation.rounds(federation.start(folder, overwrite=False), folder)
    next(steps)
    next(steps)
    steps.close()
    again = Run(SimulatedSites(config, cache_dir=cache_dir))
    for _ in again.rounds(again.resume(folder), folder):
        pass
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("phoenix-secure")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    lines = folder.read_metrics()
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert [metric.value for metric in history] == pytest.approx([line["loss"] for line in lines])
    assert run.data.params["federation.rounds"] == "4"


@pytest.mark.long
def test_hidden_metrics_are_hidden_from_trackers_too(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    private = ["privacy.unit=record", "privacy.noise_multiplier=1", "privacy.sampling_rate=0.1"]
    config = load_config(
        None, [*tiny_settings, *private, f"output.mlflow={uri}", "federation.rounds=1"]
    )
    folder = RunFolder(tmp_path / "run")
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    list(federation.rounds(federation.start(folder, overwrite=False), folder))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("phoenix-secure")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert not {"loss", "num_images"} & run.data.metrics.keys()
    assert "update_norm" in run.data.metrics


def test_an_address_that_is_none_is_named_with_the_fix(tiny_settings: list[str]) -> None:
    config = load_config(None, [*tiny_settings, "output.mlflow=nonsense://x"])
    with pytest.raises(ConfigError, match=r"output\.mlflow = nonsense.*sqlite:///runs/mlflow\.db"):
        metrics_writer(config)
