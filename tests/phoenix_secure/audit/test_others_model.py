"""A model of others is opened as what it is, or refused in words that name the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDPMScheduler, UNet2DConditionModel

from others_models import digits, save, small_unet
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.others_model import open_others_model, sampling_pipeline
from phoenix_secure.audit.process import DISCRETE
from phoenix_secure.config import SamplingConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.diffusion.sampling import sample_images
from phoenix_secure.errors import CheckpointError

CPU = torch.device("cpu")


def opened(folder: Path) -> PipelineDenoiser:
    return PipelineDenoiser(open_others_model(folder, device=CPU).pipeline, device=CPU)


def rewrite(file: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(file.read_text())
    content.update(changes)
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_the_old_word_for_a_network_that_predicts_the_image_is_understood(tmp_path: Path) -> None:
    unet = small_unet()
    folder = save(unet, tmp_path / "old", scheduler=DDPMScheduler(prediction_type="sample"))
    expected = opened(folder)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    rewrite(scheduler, prediction_type=None, predict_epsilon=False)
    found = opened(folder)
    x, t = to_unit_range(digits(0, 6)[0][:, None]), np.full(6, 300)
    assert found.process.prediction == "sample"
    assert np.array_equal(found(x, t), expected(x, t))
    rewrite(scheduler, predict_epsilon=True)
    assert opened(folder).process.prediction == "epsilon"


@pytest.mark.parametrize(
    "name",
    ["FlowMatchEulerDiscreteScheduler", "CMStochasticIterativeScheduler", "EDMEulerScheduler"],
)
def test_ddim_pipelines_do_not_turn_another_process_into_theirs(name: str, tmp_path: Path) -> None:
    import diffusers

    DDIMPipeline(small_unet(), DDPMScheduler()).save_pretrained(tmp_path)
    getattr(diffusers, name)().save_pretrained(tmp_path / "scheduler")
    rewrite(tmp_path / "model_index.json", scheduler=["diffusers", name])
    with pytest.raises(CheckpointError, match=f"saved with the scheduler {name}"):
        opened(tmp_path)


def test_ddim_pipelines_keep_the_levels_of_a_sampler_of_their_process(tmp_path: Path) -> None:
    from diffusers import DPMSolverMultistepScheduler

    DDIMPipeline(small_unet(), DDPMScheduler()).save_pretrained(tmp_path)
    DPMSolverMultistepScheduler(beta_end=0.03).save_pretrained(tmp_path / "scheduler")
    rewrite(tmp_path / "model_index.json", scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    expected = np.cumprod(1 - np.linspace(1e-4, 0.03, 1000))
    np.testing.assert_allclose(opened(tmp_path).alpha_bar, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample_size": [8, 16]}, r"8 x 16 .*only square images"),
        ({"in_channels": 4, "out_channels": 4}, "models of latents cannot be audited"),
        ({"in_channels": 3, "out_channels": 1}, "takes 3 channels and answers 1"),
        ({"sample_size": None}, "no sample_size"),
    ],
)
def test_forms_that_cannot_be_audited_are_named(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    save(small_unet(**changes), tmp_path)
    with pytest.raises(CheckpointError, match=words):
        opened(tmp_path)


def test_a_network_that_wants_more_than_pixels_is_refused(tmp_path: Path) -> None:
    DDIMPipeline(small_unet(), DDPMScheduler()).save_pretrained(tmp_path)
    text = UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
    )
    text.save_pretrained(tmp_path / "unet")
    rewrite(tmp_path / "model_index.json", unet=["diffusers", "UNet2DConditionModel"])
    with pytest.raises(CheckpointError, match="UNet2DConditionModel"):
        opened(tmp_path)


def test_half_precision_and_learned_variance_answer_as_the_plain_model(tmp_path: Path) -> None:
    x, t = to_unit_range(digits(0, 6)[0][:, None]), np.full(6, 200)
    plain = opened(save(small_unet(), tmp_path / "plain"))(x, t)
    half = save(small_unet().half(), tmp_path / "half", variant="fp16")
    np.testing.assert_allclose(opened(half)(x, t), plain, atol=5e-3)
    learned = small_unet(out_channels=2)
    with torch.no_grad():
        for own, other in zip(learned.parameters(), small_unet().parameters(), strict=True):
            own[: len(other)] = other
    variance = DDPMScheduler(variance_type="learned_range")
    found = opened(save(learned, tmp_path / "learned", scheduler=variance))(x, t)
    np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.mark.parametrize("classes", [{}, {"num_class_embeds": 3}], ids=str)
@pytest.mark.parametrize("name", sorted(DISCRETE - {"DPMSolverSDEScheduler"}))
def test_every_scheduler_of_the_process_can_be_sampled_from(
    name: str, classes: dict[str, int], tmp_path: Path
) -> None:
    import diffusers

    save(small_unet(**classes), tmp_path, scheduler=getattr(diffusers, name)())
    pipeline, facts = sampling_pipeline(open_others_model(tmp_path, device=CPU).pipeline)
    drawn = sample_images(
        pipeline,
        num_images=2,
        sampling=SamplingConfig(num_steps=3),
        generator=torch.Generator().manual_seed(0),
    )
    assert drawn.shape == (2, 1, 8, 8)
    kept = {"DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"}
    if not classes:
        kept |= {"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"}
    assert (facts == {}) is (name in kept)
