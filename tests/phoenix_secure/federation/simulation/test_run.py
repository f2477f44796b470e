"""A run from settings to a model folder; the same weights for a seed, whatever interrupts it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.split import load_split
from phoenix_secure.diffusion.model_folder import load_model
from phoenix_secure.errors import CheckpointError, ConfigError, DataError, PhoenixError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.training.parameters import to_vector


def complete(config: RunConfig, path: Path, cache_dir: Path) -> ServerState:
    """A run without interruption."""
    folder = RunFolder(path)
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    for _ in federation.rounds(federation.start(folder, overwrite=False), folder):
        pass
    federation.finish(folder)
    return folder.load_state(config=config)


def same(one: ServerState, two: ServerState) -> bool:
    names = ("parameters", "ema", "momentum", "second_moment")
    return one.round_number == two.round_number and all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in names
    )


@pytest.mark.long
def test_run_folder_holds_what_it_promises(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    written = ["output.samples_every_rounds=2", "output.tensorboard=true"]
    config = load_config(None, [*tiny_settings, *written])
    state = complete(config, tmp_path / "run", cache_dir)
    run = tmp_path / "run"
    folder = RunFolder(run)
    assert folder.load_config() == config.with_split()
    lines = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    assert [line["round_number"] for line in lines] == [1, 2, 3, 4]
    assert all(line["bytes_up"] > 3 * 4 * state.parameters.size for line in lines)
    for name in ("samples.png", "curves.png", "partition.png", "samples/round-000002.png"):
        with Image.open(run / name) as picture:
            picture.verify()
    loaded = load_model(folder.model, device=torch.device("cpu"))
    np.testing.assert_array_equal(to_vector(loaded.pipeline.unet), state.ema)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["secure_aggregation"] == "off"
    assert summary["guarantee"]["epsilon"] is None
    assert summary["guarantee"]["text"].startswith("no formal guarantee")
    assert {p.name for p in (run / "checkpoints").iterdir()} == {
        "round-000003.safetensors",
        "round-000004.safetensors",
    }
    assert "torch" in json.loads((run / "versions.json").read_text())
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [line["loss"] for line in lines]
    )


def test_split_and_owners_on_disk_are_disjoint_and_cover(
    tiny_config: RunConfig, tmp_path: Path, cache_dir: Path
) -> None:
    federation = Run(SimulatedSites(tiny_config, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    federation.start(folder, overwrite=False)
    split = load_split(folder.split_file, image_set=federation.backend.partition.image_set)
    with np.load(tmp_path / "run" / "sites.npz", allow_pickle=False) as file:
        owner, sites = file["owner"], file["sites"]
    assert list(sites) == ["site-01", "site-02", "site-03"]
    np.testing.assert_array_equal(np.flatnonzero(owner >= 0), np.sort(split.members))
    for number, part in enumerate(federation.backend.partition.parts.values()):
        np.testing.assert_array_equal(np.flatnonzero(owner == number), np.sort(part))


@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["fedadam", pytest.param("fedavg", marks=pytest.mark.slow)])
def test_one_seed_gives_identical_weights_however_many_sites_run_at_once(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path, optimizer: str
) -> None:
    def trained(*changes: str) -> ServerState:
        overrides = [*tiny_settings, f"federation.server_optimizer={optimizer}", *changes]
        return complete(load_config(None, overrides), tmp_path / changes[0], cache_dir)

    one, two = trained("federation.workers=1"), trained("federation.workers=3")
    assert same(one, two)
    assert not np.array_equal(one.parameters, trained("seed=1").parameters)


@pytest.mark.long
@pytest.mark.parametrize(
    "rounds_before", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (0, 3))]
)
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path, rounds_before: int
) -> None:
    config = load_config(
        None,
        [*tiny_settings, "federation.server_optimizer=fedyogi", "federation.participation=0.7"],
    )
    expected = complete(config, tmp_path / "whole", cache_dir)
    folder = RunFolder(tmp_path / "cut")
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    rounds = federation.rounds(federation.start(folder, overwrite=False), folder)
    for _ in range(rounds_before):
        next(rounds)
    rounds.close()
    again = Run(SimulatedSites(folder.load_config(), cache_dir=cache_dir))
    for _ in again.rounds(again.resume(folder), folder):
        pass
    assert same(folder.load_state(config=config), expected)
    assert [line["round_number"] for line in folder.read_metrics()] == [1, 2, 3, 4]


def test_metrics_of_a_round_without_checkpoint_are_dropped(
    tiny_config: RunConfig, tmp_path: Path, cache_dir: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    federation = Run(SimulatedSites(tiny_config, cache_dir=cache_dir))
    rounds = federation.rounds(federation.start(folder, overwrite=False), folder)
    next(rounds)
    rounds.close()
    folder.append_metrics({"round_number": 2, "loss": 0.0})
    with folder.metrics_file.open("a") as file:
        file.write('{"round_number": 3, "lo')  # a line cut short by a power failure
    federation.resume(folder)
    assert [line["round_number"] for line in folder.read_metrics()] == [1]


def test_litter_of_a_killed_process_is_removed(
    tiny_config: RunConfig, tmp_path: Path, cache_dir: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    federation = Run(SimulatedSites(tiny_config, cache_dir=cache_dir))
    federation.start(folder, overwrite=False)
    (folder.path / ".model.abc.tmp").mkdir()
    (folder.checkpoints / ".round-000009.safetensors.x.tmp").write_text("half")
    federation.resume(folder)
    assert not list(folder.path.rglob(".*.tmp"))


def test_run_killed_before_its_first_checkpoint_starts_anew(
    tiny_config: RunConfig, tmp_path: Path, cache_dir: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_config, overwrite=False)
    federation = Run(SimulatedSites(tiny_config, cache_dir=cache_dir))
    assert federation.resume(folder).round_number == 0
    assert folder.split_file.exists()
    assert (folder.path / "versions.json").exists()


def test_litter_alone_does_not_make_a_folder_somebody_elses(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.yaml.x1.tmp").write_text("half")
    RunFolder(tmp_path / "run").create(tiny_config, overwrite=False)


def test_other_images_or_settings_are_refused_on_resume(
    tiny_config: RunConfig, tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    Run(SimulatedSites(tiny_config, cache_dir=cache_dir)).start(folder, overwrite=False)
    changed = yaml.safe_load(folder.config_file.read_text())
    changed["training"]["learning_rate"] = 0.5
    folder.config_file.write_text(yaml.safe_dump(changed))
    other = Run(SimulatedSites(folder.load_config(), cache_dir=cache_dir))
    with pytest.raises(CheckpointError, match="other settings"):
        other.resume(folder)


def test_folder_in_use_is_refused(tiny_config: RunConfig, tmp_path: Path, cache_dir: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    federation = Run(SimulatedSites(tiny_config, cache_dir=cache_dir))
    federation.start(folder, overwrite=False)
    with pytest.raises(ConfigError, match="already holds a run"):
        federation.start(folder, overwrite=False)
    federation.start(folder, overwrite=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="not a run"):
        federation.start(RunFolder(tmp_path / "photos"), overwrite=True)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["partition.num_sites=999"], DataError, "partition.num_sites"),
        (
            ["partition.alpha=0.01", "partition.num_sites=9", "partition.min_images_per_site=35"],
            DataError,
            "alpha",
        ),
        (
            ["partition.scheme=shards", "partition.shards_per_site=100", "partition.num_sites=9"],
            PhoenixError,
            "shards_per_site",
        ),
        (["evaluation.num_images=50", "data.held_out=0"], ConfigError, "data.held_out"),
        (
            [
                "model.block_channels=[8,16,16,16,16]",
                "model.attention=[false,false,false,false,false]",
            ],
            ConfigError,
            "data.image_size",
        ),
        (["device=cuda:7"], ConfigError, "CUDA"),
        (["data.name=npz", "data.path=absent.npz"], DataError, "absent.npz"),
    ],
)
def test_wrong_settings_are_found_before_anything_is_written(
    tiny_settings: list[str],
    tmp_path: Path,
    cache_dir: Path,
    overrides: list[str],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error) as caught:
        Run(SimulatedSites(load_config(None, [*tiny_settings, *overrides]), cache_dir=cache_dir))
    assert message in str(caught.value)
    assert not list(tmp_path.glob("run*"))


@pytest.mark.long
def test_judging_puts_samples_beside_real_images_and_noise(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(
        None,
        [
            *tiny_settings,
            "evaluation.num_images=100",
            "federation.rounds=1",
            "data.max_images=1500",
        ],
    )
    complete(config, tmp_path / "run", cache_dir)
    rows = json.loads((tmp_path / "run" / "evaluation.json").read_text())["rows"]
    assert set(rows) == {"generated", "held-out real", "noise"}
    assert rows["held-out real"]["kid"] < rows["noise"]["kid"]
    assert rows["held-out real"]["precision"] > rows["noise"]["precision"]
