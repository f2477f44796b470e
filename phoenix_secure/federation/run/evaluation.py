"""Quality of the global model's samples, beside held-out real images and noise."""

from __future__ import annotations

import logging
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
from phoenix_secure.metrics.quality import TELLING_IMAGES, compare, min_images
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["Evaluator", "Sampler", "evaluator_of", "feature_extractor"]


_log = logging.getLogger(__name__)


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
    """Compares samples with the reference images that the run keeps back.

    num_images   of each kind: as many as the settings ask for, or as are kept back
    """

    def __init__(
        self, config: RunConfig, partition: DataPartition, *, seeds: SeedTree, device: torch.device
    ) -> None:
        self._settings = config.evaluation
        self._partition = partition
        self._seeds = seeds
        self._device = device
        self.num_images = min(config.evaluation.num_images, _num_kept_back(partition))

    def quality_of(self, model: Sampler) -> dict[str, Any]:
        """The quality table as plain data, for JSON."""
        split, images = self._partition.split, self._partition.image_set
        generated = model.sample(self.num_images, purpose="evaluation")
        with workers(num_cores()):
            return compare(
                generated,
                reference=to_unit_range(images.take(split.reference[: self.num_images]).images),
                held_out=to_unit_range(images.take(split.held_out[: self.num_images]).images),
                extractor=self._extractor,
                rng=self._seeds.child("evaluation").numpy(),
                metrics=self._settings.metrics,
            ).to_dict()

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Features of images (N, C, H, W) in [-1, 1]: what most of the time goes into."""
        with workers(num_cores()):
            return self._extractor(images)

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        # Reference, held-out and noise stay the same: only new samples cost anything.
        return FeatureCache(feature_extractor(self._settings, device=self._device))


def evaluator_of(
    config: RunConfig, partition: DataPartition, *, seeds: SeedTree, device: torch.device
) -> Evaluator | None:
    """The evaluator that the settings ask for; None where no sample is evaluated.

    Fewer pictures than the settings ask for lower the number, and with too few for any figure there
    is none; the log says so.

    Raises:     ConfigError when the settings ask for too few images.
    """
    wished, needed = config.evaluation.num_images, min_images()
    if wished == 0:
        return None
    if wished < needed:
        raise ConfigError(
            f"evaluation.num_images is {wished}, and {needed} are needed: raise it, or set it to 0"
        )
    if config.data.held_out == 0 or config.data.reference == 0:
        raise ConfigError(
            "evaluation.num_images needs images that nobody trains on: raise data.held_out and "
            "data.reference, or set evaluation.num_images=0"
        )
    kept_back = _num_kept_back(partition)
    if kept_back < needed:
        _log.warning(
            "samples are not evaluated: %d images are held out and %d are for reference, and %d of "
            "each are needed; bring more, or raise data.held_out and data.reference",
            len(partition.split.held_out),
            len(partition.split.reference),
            needed,
        )
        return None
    if kept_back < min(wished, TELLING_IMAGES):
        _log.warning(
            "samples are evaluated on %d images in place of %d: %d are held out and %d are for "
            "reference; so few tell a trained model from noise, and not one model from another "
            "(%d do)",
            kept_back,
            wished,
            len(partition.split.held_out),
            len(partition.split.reference),
            TELLING_IMAGES,
        )
    return Evaluator(config, partition, seeds=seeds, device=device)


def _num_kept_back(partition: DataPartition) -> int:
    return min(len(partition.split.held_out), len(partition.split.reference))
