"""Folders of diffusers models as people have them on their disks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

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


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


Weights = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda w: {f"module.{name}": each for name, each in w.items()}, r"\d+ missing, such as"),
        (lambda w: {n: each for n, each in w.items() if n != "conv_in.bias"}, "1 missing.*conv_in"),
        (lambda w: {**w, "ema.decay": torch.ones(1)}, r"1 unexpected, such as ema\.decay"),
        (lambda w: {n: (each * 99).to(torch.int8) for n, each in w.items()}, "I8: quantised"),
    ],
    ids=["wrapper", "one tensor fewer", "one more", "quantised"],
)
def test_every_weight_is_from_the_file_and_none_is_left_over(
    tmp_path: Path, damage: Callable[[Weights], Weights], told: str
) -> None:
    """diffusers alone fills what is missing with what memory holds."""
    save(small_unet(), tmp_path / "model")
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(damage(load_file(file)), file)
    with pytest.raises(CheckpointError, match=told):
        load_model(tmp_path / "model", device=CPU)


def test_attention_as_older_versions_named_it_is_read(tmp_path: Path) -> None:
    save(small_unet(add_attention=True), tmp_path / "model")
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, old in older.items():
        weights = {name.replace(f".{new}.", f".{old}."): each for name, each in weights.items()}
    assert any(".query." in name for name in weights)
    drawn = draw(tmp_path / "model")
    save_file(weights, file)
    np.testing.assert_array_equal(draw(tmp_path / "model"), drawn)


def test_weights_whole_and_in_shards_are_two(tmp_path: Path) -> None:
    save(small_unet(), tmp_path / "whole")
    save(small_unet(), tmp_path / "model", max_shard_size="4KB")
    name = "diffusion_pytorch_model.safetensors"
    shutil.copy(tmp_path / "whole" / "unet" / name, tmp_path / "model" / "unet" / name)
    with pytest.raises(CheckpointError, match="whole and in shards"):
        load_model(tmp_path / "model", device=CPU)


@pytest.mark.parametrize("place", [".", "unet"])
def test_an_adapter_beside_the_network_is_no_part_of_it(tmp_path: Path, place: str) -> None:
    save(small_unet(), tmp_path / "model")
    adapter = tmp_path / "model" / place / "pytorch_lora_weights.safetensors"
    save_file({"unet.conv_in.lora_A.weight": torch.zeros(2, 1, 3, 3)}, adapter)
    with pytest.raises(CheckpointError, match=r"adapter .LoRA.*fuse_lora"):
        load_model(tmp_path / "model", device=CPU)


@pytest.mark.parametrize("size", [0, -8, 8.0, "8", "88", [8, 0], {"a": 8}])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: object) -> None:
    save(small_unet(), tmp_path / "model")
    change(tmp_path / "model", "unet/config.json", sample_size=size)
    with pytest.raises(CheckpointError, match="sample_size"):
        load_model(tmp_path / "model", device=CPU)


def test_what_a_folder_claims_is_not_allocated(tmp_path: Path) -> None:
    save(small_unet(), tmp_path / "model")
    change(tmp_path / "model", "unet/config.json", block_out_channels=[400_000])
    with pytest.raises(CheckpointError, match="not of one model"):
        load_model(tmp_path / "model", device=CPU)
    save(small_unet(), tmp_path / "other")
    for steps in (10**9, 0, 1000.0, "1000"):
        change(tmp_path / "other", "scheduler/scheduler_config.json", num_train_timesteps=steps)
        with pytest.raises(CheckpointError, match="num_train_timesteps"):
            load_model(tmp_path / "other", device=CPU)


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
