"""Gradients of single images by torch.func: exact for any layer; slower, and more memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.sample_gradients import Instantiated, SampleGradient

__all__ = ["VmapGradients"]


class VmapGradients:
    """The whole network under ``vmap(grad)``, whose every gradient is in memory at once."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        # Fused attention has no batching rule on the CPU and would run image by image.
        for module in network.modules():
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor())
        self._gradients = vmap(grad_and_value(self._loss), in_dims=(None, 0, 0, 0, 0, 0))
        self._unlabelled = vmap(grad_and_value(self._loss), in_dims=(None, 0, 0, 0, 0, None))

    def __call__(self, rows: ImageRows) -> tuple[Mapping[str, SampleGradient], torch.Tensor]:
        frozen = {name: p.detach() for name, p in self._network.named_parameters()}
        function = self._unlabelled if rows.labels is None else self._gradients
        samples, losses = function(
            frozen, rows.inputs, rows.times, rows.target, rows.weight, rows.labels
        )
        found = {name: Instantiated(sample) for name, sample in samples.items()}
        return found, torch.as_tensor(losses)

    def _loss(
        self,
        parameters: Mapping[str, torch.Tensor],
        inputs: torch.Tensor,
        times: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor | None,
    ) -> torch.Tensor:
        """The mean loss of one image over its rows."""
        output = functional_call(
            self._network, dict(parameters), (inputs, times), {"class_labels": labels}
        ).sample
        mean: torch.Tensor = (weight * (output - target).square().flatten(1).mean(dim=1)).mean()
        return mean
