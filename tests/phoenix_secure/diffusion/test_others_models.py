"""Folders of diffusers models as people have them on their disks."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from others_models import save, small_unet
from phoenix_secure.config import SamplingConfig
from phoenix_secure.diffusion.model_folder import load_model
from phoenix_secure.diffusion.sampling import sample_images
from phoenix_secure.errors import CheckpointError

CPU = torch.device("cpu")
QUICK = SamplingConfig(num_steps=3)


def draw(folder: Path, num: int = 4) -> np.ndarray:
    pipeline = load_model(folder, device=CPU).pipeline
    generator = torch.Generator().manual_seed(0)
    return sample_images(pipeline, num_images=num, sampling=QUICK, generator=generator)


def test_a_variant_alone_is_opened_and_two_are_refused(tmp_path: Path) -> None:
    save(small_unet().half(), tmp_path / "model", variant="fp16")
    assert draw(tmp_path / "model").shape == (4, 1, 8, 8)
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    (weights.with_name("diffusion_pytorch_model.ema.safetensors")).write_bytes(weights.read_bytes())
    with pytest.raises(CheckpointError, match="variants ema, fp16: leave one"):
        load_model(tmp_path / "model", device=CPU)


def test_a_sharded_variant_is_opened(tmp_path: Path) -> None:
    save(small_unet().half(), tmp_path / "model", variant="fp16", max_shard_size="4KB")
    assert len(list((tmp_path / "model" / "unet").glob("*.safetensors"))) > 1
    assert draw(tmp_path / "model").shape == (4, 1, 8, 8)


def test_two_equal_sizes_are_one(tmp_path: Path) -> None:
    save(small_unet(sample_size=[8, 8]), tmp_path / "model")
    assert draw(tmp_path / "model").shape == (4, 1, 8, 8)


@pytest.mark.parametrize("kind", ["timestep", "identity"])
def test_classes_that_are_no_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    save(small_unet(class_embed_type=kind), tmp_path / "model")
    with pytest.raises(CheckpointError, match=f"classes of the kind {kind}"):
        load_model(tmp_path / "model", device=CPU)


def test_weights_that_are_no_numbers_are_refused_without_advice_on_training(tmp_path: Path) -> None:
    unet = small_unet()
    unet.conv_in.weight.data[0, 0, 0, 0] = float("inf")
    save(unet, tmp_path / "model")
    with pytest.raises(CheckpointError, match="hold NaN or infinity") as caught:
        load_model(tmp_path / "model", device=CPU)
    assert "learning_rate" not in str(caught.value)


def test_a_class_conditional_model_of_others_samples_its_classes_in_turn(tmp_path: Path) -> None:
    save(small_unet(num_class_embeds=3), tmp_path / "model")
    pipeline = load_model(tmp_path / "model", device=CPU).pipeline
    seen: list[int] = []
    pipeline.unet.register_forward_hook(
        lambda module, given, options, answer: seen.extend(options["class_labels"].tolist()),
        with_kwargs=True,
    )
    generator = torch.Generator().manual_seed(0)
    sample_images(pipeline, num_images=4, sampling=QUICK, generator=generator)
    assert seen == [0, 1, 2, 0] * 3


@pytest.mark.parametrize("name", ["PNDMScheduler", "IPNDMScheduler", "RePaintScheduler"])
def test_a_scheduler_that_cannot_sample_here_is_refused(name: str, tmp_path: Path) -> None:
    save(small_unet(), tmp_path / "model", scheduler=getattr(diffusers, name)())
    with pytest.raises(CheckpointError, match=f"scheduler {name}: save the pipeline with DDIM"):
        draw(tmp_path / "model")


def test_a_scheduler_that_scales_gets_its_scale(tmp_path: Path) -> None:
    """Euler's first noise has a standard deviation of 157, which DDPMPipeline leaves out."""
    scheduler = diffusers.EulerDiscreteScheduler()
    save(small_unet(), tmp_path / "model", scheduler=scheduler)
    pipeline = load_model(tmp_path / "model", device=CPU).pipeline
    first: list[float] = []
    pipeline.unet.register_forward_pre_hook(lambda module, given: first.append(given[0].std()))
    generator = torch.Generator().manual_seed(0)
    sample_images(pipeline, num_images=16, sampling=QUICK, generator=generator)
    assert float(first[0]) == pytest.approx(1, abs=0.1)  # 157 over sqrt(157**2 + 1)


def test_pickled_weights_are_refused_as_what_they_are(tmp_path: Path) -> None:
    save(small_unet(), tmp_path / "model", safe_serialization=False)
    with pytest.raises(CheckpointError, match=r"pickled \(\.bin\), which can run code"):
        load_model(tmp_path / "model", device=CPU)
