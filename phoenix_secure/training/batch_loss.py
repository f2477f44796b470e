"""The loss of one batch of regression problems, wherever it is computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from phoenix_secure.config import TrainingConfig
from phoenix_secure.diffusion.objective import TrainingPair

__all__ = ["Batch", "batch_loss"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Batch:
    """Everything that was drawn for one step: regression problems (B,), and labels (B,) or None."""

    pair: TrainingPair
    labels: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.pair.inputs)


def batch_loss(network: torch.nn.Module, batch: Batch, training: TrainingConfig) -> torch.Tensor:
    """Weighted mean squared error of each image (B,) float32, under ``training.autocast``."""
    pair, kind = batch.pair, training.autocast
    with torch.autocast(
        pair.inputs.device.type,
        dtype=torch.float16 if kind == "float16" else torch.bfloat16,
        enabled=kind != "off",
    ):
        loss = pair.loss(network(pair.inputs, pair.times, class_labels=batch.labels).sample)
    return loss.float()
