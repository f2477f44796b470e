"""Sampling from the global model: sample grids and the images that are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.model_folder import save_model
from phoenix_secure.diffusion.sampling import build_pipeline, sample_images
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.pictures import Encode, save_grid
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import load_vector, to_vector
from phoenix_secure.workers import workers

__all__ = ["GlobalModel"]


class GlobalModel:
    """The network that the server samples from: the moving average of the global model."""

    def __init__(
        self,
        config: RunConfig,
        *,
        image_size: int,
        channels: int,
        class_names: tuple[str, ...],
        seeds: SeedTree,
        device: torch.device,
    ) -> None:
        self._config = config
        self._class_names = class_names
        self._seeds = seeds
        unet = build_unet(
            config.model,
            image_size=image_size,
            channels=channels,
            num_classes=len(class_names),
            seeds=seeds,
        )
        self.initial_parameters = to_vector(unet)
        self._unet = unet.to(device)

    def use(self, state: ServerState) -> None:
        """Take the averaged parameters of ``state``, or the plain ones when averaging is off."""
        has_ema = self._config.ema.decay > 0
        self.use_vector(state.ema if has_ema else state.parameters)

    def use_vector(self, parameters: np.ndarray) -> None:
        """Take ``parameters`` (d,)."""
        load_vector(self._unet, parameters)

    def sample(
        self, num_images: int, *, purpose: str, progress: Callable[[int], object] = lambda _: None
    ) -> np.ndarray:
        """Images (N, C, H, W) float32 in [-1, 1]; classes in turn when the model has them.

        The stream depends on the seed and ``purpose`` alone, so pictures of two rounds show the
        same noise through two models.
        """
        labels = None
        if self._config.model.class_conditional:
            labels = torch.arange(num_images) % len(self._class_names)
        with workers(num_cores()):
            return sample_images(
                build_pipeline(self._unet, self._config),
                num_images=num_images,
                sampling=self._config.sampling,
                generator=self._seeds.child("draw", purpose).torch(),
                class_labels=labels,
                progress=progress,
            )

    def save_grid(self, path: Path, *, encode: Encode) -> None:
        """Sample and write one sample grid."""
        images = self.sample(self._config.output.num_samples, purpose="grid")
        save_grid(from_unit_range(images), path, encode=encode)

    def export(self, path: Path) -> None:
        """Write the model as a diffusers pipeline folder."""
        names = self._class_names if self._config.model.class_conditional else ()
        pipeline = build_pipeline(self._unet, self._config)
        save_model(pipeline, path, sampling=self._config.sampling, class_names=names)
