"""Opens a model that others trained, and refuses by name what would be read as something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

from phoenix_secure.audit.process import DISCRETE
from phoenix_secure.diffusion.model_folder import SavedModel, load_model
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.errors import CheckpointError

__all__ = ["open_others_model", "sampling_pipeline"]

# Called as DDPMPipeline calls a scheduler, and given what it returns.
_SAMPLE_HERE = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EDMDPMSolverMultistepScheduler",
        "EDMEulerScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
    }
)


def open_others_model(path: Path, *, device: torch.device) -> SavedModel:
    """The pipeline in ``path``, with the scheduler that its training had.

    DDIMPipeline turns every scheduler into a DDIMScheduler while it loads: one of another process
    (flow matching, consistency, EDM) would be taken for a plain DDPM. And a scheduler of diffusers
    before 0.9 says ``predict_epsilon: false`` where it now says ``prediction_type: sample``.

    Raises:     CheckpointError naming what cannot be audited.
    """
    saved = load_model(path, device=device)
    pipeline = saved.pipeline
    fold = int(getattr(pipeline.config, "space_to_depth", 1) or 1)
    if not isinstance(pipeline, PhoenixPipeline) and not isinstance(pipeline.unet, UNet2DModel):
        raise CheckpointError(
            f"the network is a {type(pipeline.unet).__name__}: only UNet2DModel, which sees pixels "
            "and a class, can be audited"
        )
    _check_form(pipeline.unet.config, fold=fold)
    stored = _stored_scheduler(path)
    name = str(stored.get("_class_name", type(pipeline.scheduler).__name__))
    converted = name != type(pipeline.scheduler).__name__
    if converted and (name not in DISCRETE or stored.get("use_flow_sigmas", False)):
        raise CheckpointError(
            f"the model was saved with the scheduler {name}, which {type(pipeline).__name__} "
            "would take for a DDIMScheduler of another process: only DDPM and EDM processes can "
            "be audited"
        )
    if stored.get("predict_epsilon", True) is False and stored.get("prediction_type") == "epsilon":
        raise CheckpointError(
            "scheduler_config.json says predict_epsilon: false and prediction_type: epsilon, which "
            "contradict each other: leave the one that the training had"
        )
    if stored.get("predict_epsilon", True) is False and "prediction_type" not in stored:
        scheduler = pipeline.scheduler
        pipeline.scheduler = type(scheduler).from_config(scheduler.config, prediction_type="sample")
    return saved


def sampling_pipeline(pipeline: Any) -> tuple[Any, dict[str, str]]:
    """The pipeline that draws samples of the same process, and what the report says about it.

    A scheduler that DDPMPipeline cannot walk with is replaced by a DDIMScheduler of its levels.
    """
    scheduler = pipeline.scheduler
    name = type(scheduler).__name__
    scales = float(getattr(scheduler, "init_noise_sigma", 1)) != 1
    is_conditional = pipeline.unet.config.num_class_embeds is not None
    walks = name in _SAMPLE_HERE and not (scales and is_conditional)
    if isinstance(pipeline, PhoenixPipeline) or walks or name not in DISCRETE:
        return pipeline, {}
    own = DDPMPipeline(pipeline.unet, DDIMScheduler.from_config(scheduler.config))
    own.set_progress_bar_config(disable=True)
    return own, {"sampled with": f"DDIMScheduler of the same process in place of {name}"}


def _check_form(config: Any, *, fold: int) -> None:
    channels, answered = int(config.in_channels), int(config.out_channels)
    if answered not in (channels, 2 * channels):  # twice: with a learned variance
        raise CheckpointError(
            f"the network takes {channels} channels and answers {answered}: it is given more than "
            "the noisy image (a mask, a low resolution), which an audit does not have"
        )
    if channels not in (fold**2, 3 * fold**2):
        raise CheckpointError(
            f"the network takes {channels} channels: images have 1 (grey) or 3 (RGB), and models "
            "of latents cannot be audited"
        )
    size = config.sample_size
    if size is None:
        raise CheckpointError(
            "the network's config.json states no sample_size: write the side of its training "
            "images there"
        )
    sides = [size] if isinstance(size, int) else list(size)
    if len(set(sides)) != 1:
        raise CheckpointError(
            f"the network's images are {' x '.join(map(str, sides))} (sample_size): its files are "
            "sound, but only square images can be audited"
        )


def _stored_scheduler(path: Path) -> dict[str, Any]:
    """The scheduler's settings as they lie on the disk; the loaded object has forgotten some."""
    file = path / "scheduler" / "scheduler_config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is missing or damaged: save the model again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is damaged: save the model again")
    return content
