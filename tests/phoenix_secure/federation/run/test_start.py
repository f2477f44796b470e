"""Runs that start from a model: whose weights, whose network, and what was promised before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion import start_model
from phoenix_secure.diffusion.model_folder import load_model
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.heterogeneity.deployment import deployment_strategies
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.start import add_model, with_start
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import to_vector

CPU = torch.device("cpu")
SMALL = [
    "federation.rounds=1",
    "training.local_steps=1",
    "diffusion.num_timesteps=20",
    "data.max_images=200",
]
PRIVATE = [
    "privacy.unit=record",
    "privacy.epsilon=8",
    "privacy.delta=1e-4",
    "privacy.sampling_rate=0.2",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run_in(path: Path, settings: list[str]) -> SimulatedSites:
    sites = SimulatedSites(load_config(None, settings), cache_dir=path.parent / "cache")
    run, folder = Run(sites), RunFolder(path)
    list(run.rounds(run.start(folder, overwrite=False), folder))
    run.finish(folder)
    return sites


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> Path:
    """A finished run without privacy. Never change it."""
    folder = tmp_path_factory.mktemp("first")
    run_in(folder / "run", [*tiny_settings, *SMALL])
    return folder / "run"


def foreign_folder(path: Path, **schedule: object) -> Path:
    """A model as diffusers' own examples make it: options that no setting of ours names."""
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        freq_shift=1,
        flip_sin_to_cos=False,
        downsample_padding=0,
        norm_eps=1e-6,
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, **schedule)
    DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(path)
    return path


@pytest.mark.long
def test_a_run_starts_from_the_weights_and_the_network_of_another(
    first: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    other = [each for each in tiny_settings if "model." not in each]
    sites = run_in(tmp_path / "next", [*other, *SMALL, f"model.init_from={first}"])
    kept = load_model(first / "model", device=CPU).pipeline.unet

    assert np.array_equal(sites.strategies.start_vector(), to_vector(kept))
    assert sites.config.model.block_channels == (8,)  # not the preset's
    again = RunFolder(tmp_path / "next").load_config()
    assert again.model.start == sites.config.model.start
    assert again.model.init_from == f"sha256:{sites.config.model.start.sha256}"  # type: ignore[union-attr]


def test_a_run_starts_from_a_folder_that_plain_diffusers_wrote(
    tiny_settings: list[str], tmp_path: Path
) -> None:
    folder = foreign_folder(tmp_path / "ddpm")
    run_in(tmp_path / "run", [*tiny_settings, "federation.rounds=1", f"model.init_from={folder}"])
    config = RunFolder(tmp_path / "run").load_config()
    made = DDPMPipeline.from_pretrained(tmp_path / "run" / "model")

    assert config.diffusion.prediction == "epsilon"
    assert config.diffusion.schedule == "linear"
    assert made.unet.config.downsample_padding == 0
    assert "nothing is promised to the images behind it" in _text(tmp_path / "run")


@pytest.mark.long
def test_what_an_earlier_run_spent_is_carried_on(tiny_settings: list[str], tmp_path: Path) -> None:
    settings = [*tiny_settings, *SMALL]
    run_in(tmp_path / "a", [*settings, *PRIVATE])
    run_in(tmp_path / "b", [*settings, *PRIVATE, "seed=1", f"model.init_from={tmp_path / 'a'}"])
    run_in(tmp_path / "c", [*settings, f"model.init_from={tmp_path / 'b' / 'model'}"])
    spent = [read_summary(tmp_path / name).guarantee or {} for name in "abc"]
    both = spent[0]["epsilon"] + spent[1]["epsilon"]

    assert f"a record of both runs has ({both:.4g}, 0.0002)" in spent[1]["text"]
    assert [each["epsilon"] for each in spent[2]["start"]["earlier"]] == [
        spent[0]["epsilon"],
        spent[1]["epsilon"],
    ]
    assert "an image of both runs has no guarantee" in spent[2]["text"]


def test_images_of_a_run_without_privacy_stay_without(
    first: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = [*tiny_settings, *SMALL, *PRIVATE, f"model.init_from={first}"]
    config = with_start(load_config(None, settings))
    sites = SimulatedSites(config, cache_dir=tmp_path)

    assert "an earlier run without a guarantee: its images have none" in sites.guarantee().text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["model.init_from=/nowhere/at-all"], "there is no /nowhere/at-all"),
        (["model.init_from=sha256:" + "ab" * 32], "models add FOLDER"),
        (["model.init_from=FIRST", "data.image_size=16"], "set data.image_size=8"),
        (["model.init_from=FIRST", "sampling.num_steps=25"], "sampling.num_steps = 25 exceeds"),
    ],
)
def test_what_cannot_be_started_from_is_told_in_one_line(
    first: Path, tiny_settings: list[str], tmp_path: Path, changes: list[str], told: str
) -> None:
    settings = [*tiny_settings, *(each.replace("FIRST", str(first)) for each in changes)]
    with pytest.raises((ConfigError, CheckpointError), match=told):
        SimulatedSites(load_config(None, settings), cache_dir=tmp_path).strategies.start_vector()


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    folder = foreign_folder(tmp_path / "ddpm", beta_end=0.5)
    with pytest.raises(ConfigError, match="schedule with other ends"):
        add_model(str(folder))


def test_unfinished_runs_are_refused(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match="not a finished run"):
        add_model(str(tmp_path / "run"))


def test_a_site_trains_from_the_planned_model_or_not_at_all(
    first: Path, tiny_settings: list[str], own_cache: Path, tmp_path: Path
) -> None:
    settings = [*tiny_settings, "data.channels=1", "data.image_size=8", f"model.init_from={first}"]
    config = with_start(load_config(None, settings))

    def start_at_a_site() -> np.ndarray:
        start_model._kept.cache_clear()  # as in another process
        return deployment_strategies(
            config, seeds=SeedTree(0), device=CPU, cache_dir=tmp_path
        ).start_vector()

    start = start_at_a_site()
    (folder,) = (own_cache / "models").iterdir()
    shutil.move(folder, tmp_path / "away")
    with pytest.raises(CheckpointError, match="is not kept on this machine"):
        start_at_a_site()
    assert add_model(str(first)) == config.model.start
    assert np.array_equal(start_at_a_site(), start)
    # Other weights under the plan's name: as a server that wants to smuggle a model in would try.
    unet = UNet2DModel.from_pretrained(folder / "unet")
    with torch.no_grad():
        next(unet.parameters()).flatten()[0] += 1e-3
    unet.save_pretrained(folder / "unet")
    with pytest.raises(CheckpointError, match="another model than its name says"):
        start_at_a_site()


def test_a_start_is_not_written_by_hand(first: Path, tiny_settings: list[str]) -> None:
    config = with_start(load_config(None, [*tiny_settings, f"model.init_from={first}"]))
    values = json.loads(config.model_dump_json())
    values["model"]["init_from"] = str(first)
    with pytest.raises(ConfigError, match="start is written by the run"):
        load_config(None, [f"model={json.dumps(values['model'])}"])


def _text(run: Path) -> str:
    guarantee = read_summary(run).guarantee or {}
    return str(guarantee["text"])
