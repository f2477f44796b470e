"""Quality of the global model's samples, beside held-out real images and noise."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from phoenix_secure.config import EvaluationConfig, RunConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.partition import DataPartition
from phoenix_secure.device import num_cores
from phoenix_secure.errors import ConfigError
from phoenix_secure.metrics.feature_cache import FeatureCache
from phoenix_secure.metrics.features import FeatureExtractor, efficientnet_lite0, inception
from phoenix_secure.metrics.quality import compare, min_images
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["Evaluator", "Sampler", "evaluator_of", "feature_extractor"]


def feature_extractor(settings: EvaluationConfig, *, device: torch.device) -> FeatureExtractor:
    """The network whose features are compared."""
    if settings.extractor == "inception":
        return inception(Path(settings.inception_weights or ""), device=device)
    return efficientnet_lite0(device=device)


class Sampler(Protocol):
    """Samples images (N, C, H, W) float32 in [-1, 1]."""

    def sample(self, num_images: int, *, purpose: str) -> np.ndarray:
        """The same images for the same purpose."""
        ...


class Evaluator:
    """Compares samples with the reference images that the run keeps back."""

    def __init__(
        self, config: RunConfig, partition: DataPartition, *, seeds: SeedTree, device: torch.device
    ) -> None:
        self._settings = config.evaluation
        self._partition = partition
        self._seeds = seeds
        self._device = device
        self._size = min(
            config.evaluation.num_images,
            len(partition.split.held_out),
            len(partition.split.reference),
        )
        if self._size < min_images():
            raise ConfigError(
                f"only {self._size} images could be evaluated, and {min_images()} are needed: "
                "raise evaluation.num_images, data.held_out and data.reference, or set "
                "evaluation.num_images=0"
            )

    def quality_of(self, model: Sampler) -> dict[str, Any]:
        """The quality table as plain data, for JSON."""
        split, images = self._partition.split, self._partition.image_set
        generated = model.sample(self._size, purpose="evaluation")
        with workers(num_cores()):
            return compare(
                generated,
                reference=to_unit_range(images.take(split.reference[: self._size]).images),
                held_out=to_unit_range(images.take(split.held_out[: self._size]).images),
                extractor=self._extractor,
                rng=self._seeds.child("evaluation").numpy(),
                metrics=self._settings.metrics,
            ).to_dict()

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        # Reference, held-out and noise stay the same: only new samples cost anything.
        return FeatureCache(feature_extractor(self._settings, device=self._device))


def evaluator_of(
    config: RunConfig, partition: DataPartition, *, seeds: SeedTree, device: torch.device
) -> Evaluator | None:
    """The evaluator that the settings ask for; None where no sample is evaluated.

    Raises:     ConfigError when the run has too few held-out images.
    """
    if config.evaluation.num_images == 0:
        return None
    return Evaluator(config, partition, seeds=seeds, device=device)
