"""Quality of the global model's samples, beside held-out real images and noise."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from phoenix_secure.config import EvaluationConfig, RunConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.drawing import GlobalModel
from phoenix_secure.federation.sites import Holdings
from phoenix_secure.metrics.features import FeatureExtractor, efficientnet_lite0, inception
from phoenix_secure.metrics.quality import compare
from phoenix_secure.rng import SeedTree

__all__ = ["Judge", "feature_extractor"]


def feature_extractor(settings: EvaluationConfig, *, device: torch.device) -> FeatureExtractor:
    """The network whose features are compared."""
    if settings.extractor == "inception":
        return inception(Path(settings.inception_weights or ""), device=device)
    return efficientnet_lite0(device=device)


class Judge:
    """Compares samples with the reference images that the run keeps back."""

    def __init__(
        self, config: RunConfig, holdings: Holdings, *, seeds: SeedTree, device: torch.device
    ) -> None:
        self._settings = config.evaluation
        self._holdings = holdings
        self._seeds = seeds
        self._device = device
        split = holdings.split
        if self.is_on and min(len(split.held_out), len(split.reference)) == 0:
            raise ConfigError(
                "evaluation.num_images needs data.held_out and data.reference above 0: "
                "raise them, or set evaluation.num_images=0"
            )

    @property
    def is_on(self) -> bool:
        """Whether anything is judged at all."""
        return self._settings.num_images > 0

    def quality_of(self, model: GlobalModel) -> dict[str, Any]:
        """The quality table as plain data, for JSON."""
        split, images = self._holdings.split, self._holdings.image_set
        held_out = images.take(split.held_out[: self._settings.num_images])
        reference = images.take(split.reference[: self._settings.num_images])
        size = min(self._settings.num_images, held_out.num_images, reference.num_images)
        table = compare(
            model.draw(size, purpose="evaluation"),
            reference=to_unit_range(reference.images[:size]),
            held_out=to_unit_range(held_out.images[:size]),
            extractor=self._extractor,
            rng=self._seeds.child("evaluation").numpy(),
        )
        return table.to_dict()

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return feature_extractor(self._settings, device=self._device)
