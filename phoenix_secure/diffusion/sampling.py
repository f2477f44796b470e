"""Image sampling: the saved model folder and the running program use the same pipelines."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DPMSolverMultistepScheduler

from phoenix_secure.config import RunConfig, SamplingConfig
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.diffusion.schedule import sampling_scheduler
from phoenix_secure.diffusion.split import split_batches
from phoenix_secure.errors import CheckpointError, TrainingError

__all__ = ["build_pipeline", "sample_images"]

# From so many rows on the matrix kernels round alike (``split.LARGEST_PIECE``).
_ROWS = 16


def build_pipeline(unet: torch.nn.Module, config: RunConfig) -> Any:
    """The diffusers pipeline around ``unet``: plain DDPMPipeline where that can sample from it."""
    scheduler = sampling_scheduler(config.diffusion, sampler=config.sampling.sampler)
    plain = (
        config.model.network == "unet"
        and config.model.space_to_depth == 1
        and not config.model.class_conditional
        and config.diffusion.prediction != "edm"
    )
    if plain:
        pipeline = DDPMPipeline(unet=unet, scheduler=scheduler)
    else:
        pipeline = PhoenixPipeline(unet, scheduler, space_to_depth=config.model.space_to_depth)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_images(
    pipeline: Any,
    *,
    num_images: int,
    sampling: SamplingConfig,
    generator: torch.Generator,
    class_labels: torch.Tensor | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Sample ``num_images`` images, in batches of about ``sampling.batch_size``.

    Shape:      (num_images, C, H, W) float32 in [-1, 1]; class_labels is (num_images,) int64 and
                goes with class-conditional models only, which otherwise sample without a class;
                pipelines of others, of which nobody knows that they can, sample all in turn.
    Guarantee:  one batch is what the pipeline itself returns for the same generator, and the same
                bit for bit on any number of ``workers``. The samplers ddim and dpm-solver sample
                the same images whatever the batch size, too: batches of at least 16 and at most
                15 images more. A sampler that draws noise on its way draws other noise then.
    Raises:     TrainingError when the network answers NaN or infinity; CheckpointError for a
                scheduler that cannot sample here.
    """
    pipeline = _sampler(pipeline)
    conditional = isinstance(pipeline, PhoenixPipeline) or hasattr(pipeline, "null_label")
    was_training = pipeline.unet.training
    pipeline.unet.eval()
    parts: list[np.ndarray] = []
    for batch in _batches(pipeline.scheduler, num_images, largest=sampling.batch_size):
        start, size = batch.start, batch.stop - batch.start
        extra: dict[str, Any] = {}
        if conditional:
            extra["guidance_scale"] = sampling.guidance_scale
            if class_labels is not None:
                extra["class_labels"] = class_labels[start : start + size]
        labels = None if conditional else _labels_in_turn(pipeline, class_labels, start, size)
        with split_batches(pipeline.unet), _asking(pipeline.unet, labels):
            images = pipeline(
                batch_size=size,
                generator=generator,
                num_inference_steps=sampling.num_steps,
                output_type="np",
                **extra,
            ).images
        if not np.isfinite(images).all():
            raise TrainingError(
                "the model samples NaN: its training diverged (of your own run: lower "
                "training.learning_rate, or resume from an earlier round)"
            )
        parts.append(images.transpose(0, 3, 1, 2).astype(np.float32) * 2 - 1)
        progress(size)
    pipeline.unet.train(was_training)
    return np.concatenate(parts) if parts else np.empty((0, 0, 0, 0), np.float32)


def _batches(scheduler: Any, num_images: int, *, largest: int) -> list[slice]:
    """What is sampled at once.

    Where only the first noise is random, batches end at multiples of 16 images. Two facts make
    their images the same ones however many go together: torch draws normal values in blocks of 16,
    so that one stream is cut at the same places; and kernels round alike from 16 rows on.
    """
    if not _is_random_only_at_first(scheduler):
        starts = list(range(0, num_images, largest))
    else:
        step = max(1, largest // _ROWS) * _ROWS
        # What is left beyond the last whole group goes with the batch before it.
        starts = list(range(0, max(num_images // _ROWS * _ROWS, min(num_images, 1)), step))
    return [slice(low, high) for low, high in pairwise([*starts, num_images])]


def _is_random_only_at_first(scheduler: Any) -> bool:
    if isinstance(scheduler, DDIMScheduler):  # no pipeline here asks it for an eta above 0
        return True
    solves = isinstance(scheduler, DPMSolverMultistepScheduler)
    return solves and "sde" not in scheduler.config.algorithm_type


def _sampler(pipeline: Any) -> Any:
    """``pipeline``, or one that also scales the network's input where its scheduler wants that.

    DDPMPipeline and DDIMPipeline open with any scheduler, call all alike, and never scale.
    """
    if isinstance(pipeline, PhoenixPipeline) or hasattr(pipeline, "null_label"):
        return pipeline
    scheduler = pipeline.scheduler
    needs_scale = float(getattr(scheduler, "init_noise_sigma", 1)) != 1
    is_conditional = pipeline.unet.config.num_class_embeds is not None
    try:  # as these pipelines call it
        inspect.signature(scheduler.step).bind(None, None, None, generator=None)
        can_step = True
    except TypeError:
        can_step = False
    if not can_step or (needs_scale and is_conditional):
        raise CheckpointError(
            f"images cannot be sampled with the scheduler {type(scheduler).__name__}: save the "
            "pipeline with DDIMScheduler.from_config(scheduler.config)"
        )
    if not needs_scale:
        return pipeline
    scaled = PhoenixPipeline(pipeline.unet, scheduler)
    scaled.set_progress_bar_config(disable=True)
    return scaled


def _labels_in_turn(
    pipeline: Any, given: torch.Tensor | None, start: int, size: int
) -> torch.Tensor | None:
    classes = pipeline.unet.config.num_class_embeds
    if classes is None:
        return None
    return (
        (torch.arange(start, start + size) % int(classes))
        if given is None
        else (given[start : start + size])
    )


@contextlib.contextmanager
def _asking(unet: torch.nn.Module, labels: torch.Tensor | None) -> Iterator[None]:
    """Inside, a network whose pipeline knows no classes is asked for ``labels``."""
    if labels is None:
        yield
        return

    def add(module: Any, given: Any, options: dict[str, Any]) -> Any:
        return given, {**options, "class_labels": labels.to(given[0].device)}

    hook = unet.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
