"""The samples under attack: the target's own, or as many as the profile draws from its model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from attacks.records import Images
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.request import Request
from phoenix_secure.audit.target import Target
from phoenix_secure.config import SamplingConfig
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.sampling import sample_images
from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.release.generator import sample_generated
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["samples_of"]

_USE_SAMPLES = {"nearest", "nearest-calibrated", "monte-carlo", "domias", "extraction"}
Progress = Callable[[str, int, int], object]


def samples_of(
    target: Target,
    request: Request,
    *,
    seeds: SeedTree,
    scale: PixelScale,
    progress: Progress,
) -> Images | None:
    """(M, C, H, W) float32 in [-1, 1]; None where no attack asked for looks at samples.

    scale       that the model's pixels have
    Raises:     CheckpointError for a model that samples no numbers.
    """
    if target.samples is not None:
        return target.samples
    if not _USE_SAMPLES & set(request.names):
        return None
    profile = request.profile
    progress("sampling images", 0, 1)
    if target.generator is not None:
        return sample_generated(
            target.generator,
            num_images=profile.num_samples,
            generator=seeds.child("samples").torch(),
        )
    sampling = target.sampling or SamplingConfig()
    limit = int(target.pipeline.scheduler.config.num_train_timesteps)
    steps = min(profile.sampling_steps, limit)
    sampling = sampling.model_copy(update={"num_steps": steps})
    labels = None
    if target.model is not None and target.model.null_label is not None:
        labels = torch.arange(profile.num_samples) % target.model.null_label
    try:
        with workers(num_cores()):
            drawn = sample_images(
                target.pipeline,
                num_images=profile.num_samples,
                sampling=sampling,
                generator=seeds.child("samples").torch(),
                class_labels=labels,
            )
    except TrainingError as error:  # of a model that is finished, and often somebody else's
        raise CheckpointError(
            "the model samples NaN or infinity, so that it cannot be audited: check its scheduler, "
            "its time embedding and its weights"
        ) from error
    return np.asarray(np.clip(scale.undo(drawn), -1, 1), dtype=np.float32)
