"""The model that a run or anybody else saved: opened, and sampled from, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from phoenix_secure.config import SamplingConfig
from phoenix_secure.diffusion.model_folder import SavedModel, load_model
from phoenix_secure.diffusion.sampling import sample_images
from phoenix_secure.release.generator import (
    DESCRIPTION,
    FittedGenerator,
    load_generator,
    sample_generated,
)

__all__ = ["AnyModel", "classes_in_turn", "draw", "load_any"]

AnyModel = SavedModel | FittedGenerator


def load_any(path: Path, *, device: torch.device) -> AnyModel:
    """A release's generator, or a DDPM / DDIM pipeline folder.

    Raises:     CheckpointError naming the folder.
    """
    if (path / DESCRIPTION).exists():
        return load_generator(path, device=device)
    return load_model(path, device=device)


def classes_in_turn(model: AnyModel, num_images: int) -> np.ndarray | None:
    """The classes (N,) int64 that the model knows, one after another; None without classes."""
    if not model.class_names:
        return None
    if isinstance(model, FittedGenerator):
        return model.labels(num_images)
    return np.arange(num_images) % len(model.class_names)


def draw(
    model: AnyModel,
    *,
    num_images: int,
    generator: torch.Generator,
    sampling: SamplingConfig | None = None,
    class_labels: np.ndarray | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """Images (N, C, H, W) float32 in [-1, 1]; ``progress`` gets the number of each batch.

    sampling       the model's own by default; a release's generator has none
    class_labels   (N,) int64; the known classes in turn by default
    """
    if class_labels is None:
        class_labels = classes_in_turn(model, num_images)
    if isinstance(model, FittedGenerator):
        return sample_generated(
            model,
            num_images=num_images,
            generator=generator,
            class_labels=class_labels,
            progress=progress,
        )
    return sample_images(
        model.pipeline,
        num_images=num_images,
        sampling=sampling or model.sampling,
        generator=generator,
        class_labels=None if class_labels is None else torch.from_numpy(class_labels),
        progress=progress,
    )
