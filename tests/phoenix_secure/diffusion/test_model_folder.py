"""Saved models open in plain diffusers and draw the same images; damaged ones are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from built_once import built_once
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.model_folder import load_model, save_model
from phoenix_secure.diffusion.sampling import build_pipeline, sample_images
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import CheckpointError, StorageError, TrainingError
from phoenix_secure.rng import SeedTree

CPU = torch.device("cpu")
SETTINGS = ["sampling.num_steps=3", "diffusion.num_timesteps=20", "model.block_channels=[8,16]"]
SETTINGS += ["model.attention=[false,false]"]

# What a user without this project runs on each model folder; its name tells the pipeline.
PROGRAM = """
import sys, torch, numpy as np
from pathlib import Path
from diffusers import DDPMPipeline, DiffusionPipeline
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.name.startswith("plain-"):
        pipeline = DDPMPipeline.from_pretrained(path)
    else:
        pipeline = DiffusionPipeline.from_pretrained(
            path, custom_pipeline=str(path), trust_remote_code=True)
    images = pipeline(batch_size=4, generator=torch.Generator().manual_seed(11),
                      num_inference_steps=3, output_type="np").images
    np.save(path / "drawn.npy", images)
assert not any(name.startswith("phoenix_secure") for name in sys.modules)
"""
MODELS = {
    "plain-default": [],
    "plain-epsilon": ["sampling.sampler=ddpm", "diffusion.prediction=epsilon"],
    "plain-dpm-solver": ["sampling.sampler=dpm-solver"],
    "custom-folded": ["model.space_to_depth=2"],
    "custom-classes": ["model.class_conditional=true"],
    "custom-edm": ["diffusion.prediction=edm"],
}


def saved(path: Path, *overrides: str) -> tuple[RunConfig, object]:
    config = load_config(None, [*SETTINGS, *overrides])
    unet = build_unet(config.model, image_size=16, channels=1, num_classes=3, seeds=SeedTree(0))
    pipeline = build_pipeline(unet, config)
    save_model(pipeline, path, sampling=config.sampling, class_names=("a", "b", "c"))
    return config, pipeline


@pytest.fixture(scope="session")
def drawn_without_us(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each of ``MODELS``, with what a user without this project draws from it."""

    def build(root: Path) -> None:
        for name, overrides in MODELS.items():
            saved(root / "models" / name, *overrides)
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(root / "models")],
            check=True,
            cwd=root,
            env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(root), "PATH": "", "OMP_NUM_THREADS": "1"},
        )

    return built_once(tmp_path_factory, "drawn-without-us", build) / "models"


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_plain_diffusers_draws_our_images(
    tmp_path: Path, drawn_without_us: Path, name: str
) -> None:
    config, pipeline = saved(tmp_path / "model", *MODELS[name])
    ours = sample_images(
        pipeline,
        num_images=4,
        sampling=config.sampling,
        generator=torch.Generator().manual_seed(11),
    )
    theirs = np.load(drawn_without_us / name / "drawn.npy", allow_pickle=False)
    assert ours.shape == (4, 1, 16, 16)
    np.testing.assert_array_equal(ours, theirs.transpose(0, 3, 1, 2) * 2 - 1)


def test_loading_gives_back_model_sampling_and_classes(tmp_path: Path) -> None:
    config, pipeline = saved(tmp_path / "model", "model.class_conditional=true")
    loaded = load_model(tmp_path / "model", device=CPU)
    assert loaded.sampling == config.sampling
    assert loaded.class_names == ("a", "b", "c")
    labels = torch.tensor([0, 2])
    drawn = [
        sample_images(
            each,
            num_images=2,
            sampling=config.sampling,
            generator=torch.Generator().manual_seed(1),
            class_labels=labels,
        )
        for each in (pipeline, loaded.pipeline)
    ]
    np.testing.assert_array_equal(*drawn)


def test_guidance_moves_away_from_no_class(tmp_path: Path) -> None:
    _, pipeline = saved(tmp_path / "model", "model.class_conditional=true")
    labels = torch.tensor([1])
    images = {
        scale: pipeline(
            class_labels=labels,
            guidance_scale=scale,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        for scale in (0.0, 1.0, 3.0)
    }
    unconditional = pipeline(
        num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="pt"
    ).images
    torch.testing.assert_close(images[0.0], unconditional)
    assert not torch.equal(images[1.0], images[3.0])


def test_wrong_labels_are_refused(tmp_path: Path) -> None:
    _, conditional = saved(tmp_path / "a", "model.class_conditional=true")
    with pytest.raises(ValueError, match=r"in 0\.\.2"):
        conditional(class_labels=torch.tensor([3]), num_inference_steps=1)
    _, plain = saved(tmp_path / "b", "model.space_to_depth=2")
    with pytest.raises(ValueError, match="not class-conditional"):
        plain(class_labels=torch.tensor([0]), num_inference_steps=1)


def test_nan_weights_do_not_become_images(tmp_path: Path) -> None:
    config, pipeline = saved(tmp_path / "model")
    with torch.no_grad():
        next(pipeline.unet.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="learning_rate"):
        sample_images(
            pipeline,
            num_images=1,
            sampling=config.sampling,
            generator=torch.Generator().manual_seed(0),
        )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "not a diffusers model folder"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "phoenix.json").write_text("{}"), "phoenix.json is damaged"),
        (
            lambda folder: (folder / "model_index.json").write_text(
                json.dumps({"_class_name": "EvilPipeline"})
            ),
            "holds a EvilPipeline",
        ),
        (
            lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(
                b"\x00" * 50
            ),
            "missing or damaged",
        ),
        (
            lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
            "missing or damaged",
        ),
    ],
)
def test_damaged_folder_is_named(tmp_path: Path, damage, message: str) -> None:
    saved(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "model", device=CPU)


def test_code_in_a_model_folder_is_never_run(tmp_path: Path) -> None:
    saved(tmp_path / "model", "model.space_to_depth=2")
    marker = tmp_path / "ran"
    (tmp_path / "model" / "pipeline.py").write_text(f"open({str(marker)!r}, 'w')\n")
    load_model(tmp_path / "model", device=CPU)
    assert not marker.exists()


def test_a_failed_save_keeps_the_old_model(tmp_path: Path) -> None:
    config, _ = saved(tmp_path / "model")

    class Broken:
        def save_pretrained(self, path: Path, **_: object) -> None:
            (path / "half").write_text("x")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="disk full"):
        save_model(Broken(), tmp_path / "model", sampling=config.sampling)
    load_model(tmp_path / "model", device=CPU)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
