"""Trackers: the same numbers as metrics.jsonl, in the reader's own tool, also after a resume."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.trackers import Trackers, quality_numbers
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
    again.finish(folder)
    run = client.get_run(run.info.run_id)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 4
    names = [each.path for each in client.list_artifacts(run.info.run_id, "samples")]
    assert "samples/samples.png" in names
    kept = next((tmp_path / "mlflow-artifacts").rglob("samples.png"))
    assert kept.read_bytes() == (folder.path / "samples.png").read_bytes()


@pytest.mark.long
def test_tensorboard_gets_one_file_with_marked_samples_epsilon_and_settings(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    private = ["privacy.unit=record", "privacy.noise_multiplier=1", "privacy.sampling_rate=0.1"]
    written = ["output.tensorboard=true", "output.samples_every_rounds=1", "federation.rounds=2"]
    config = load_config(None, [*tiny_settings, *private, *written])
    folder = RunFolder(tmp_path / "run")
    started = Run(SimulatedSites(config, cache_dir=cache_dir))
    list(started.rounds(started.start(folder, overwrite=False), folder))
    summary = started.finish(folder)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert len(list((folder.path / "tensorboard").iterdir())) == 1
    events = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    spent = events.Scalars("epsilon_spent")
    assert [event.step for event in spent] == [1, 2]
    assert summary.guarantee is not None
    assert spent[1].value == pytest.approx(summary.guarantee["epsilon"], rel=1e-3)
    assert 0 < spent[0].value < spent[1].value
    grids = [folder.samples_file(1), folder.path / "samples.png"]
    shown = events.Images("samples")
    assert [event.step for event in shown] == [1, 2]
    for event, path in zip(shown, grids, strict=True):
        assert event.encoded_image_string == path.read_bytes()
        assert b"trainedAlgorithmicMedia" in event.encoded_image_string
    told = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    settings = HParamsPluginData.FromString(told).session_start_info.hparams
    assert settings["federation.rounds"].number_value == 2
    assert settings["privacy.unit"].string_value == "record"


@pytest.mark.parametrize(("rounds", "told"), [(3, [1, 2, 3]), (120, list(range(3, 121, 3)))])
def test_the_accountant_is_asked_fifty_times_at_most(
    tiny_settings: list[str], rounds: int, told: list[int]
) -> None:
    trackers = Trackers(load_config(None, [*tiny_settings, f"federation.rounds={rounds}"]))
    assert [n for n in range(1, rounds + 1) if trackers._tells_epsilon(n)] == told


def test_figures_of_generated_images_are_tracked_where_they_were_evaluated() -> None:
    row = {"kid": 0.5, "kid_std": 0.1, "frechet": None, "recall": 0.25}
    quality = {"rows": {"generated": row, "held-out real": {"kid": 0.0}}}
    assert quality_numbers(quality) == {"kid": 0.5, "recall": 0.25}
    assert quality_numbers(None) == {}


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


@pytest.mark.long
def test_an_mlflow_server_that_nobody_runs_is_told_in_seconds(tiny_settings: list[str]) -> None:
    """MLflow itself tries for more than four minutes, without a word."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # a port at which nobody listens
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        config = load_config(None, [*tiny_settings, f"output.mlflow={address}"])
        started = time.monotonic()
        with pytest.raises(ConfigError, match=r"output\.mlflow = http.* cannot be used"):
            Trackers(config)
        assert time.monotonic() - started < 60
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_an_address_that_is_none_is_named_with_the_fix(tiny_settings: list[str]) -> None:
    config = load_config(None, [*tiny_settings, "output.mlflow=nonsense://x"])
    with pytest.raises(ConfigError, match=r"output\.mlflow = nonsense.*sqlite:///runs/mlflow\.db"):
        Trackers(config)
