"""The network that a site trains, before any weights are put into it."""

from __future__ import annotations

import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.rng import SeedTree

__all__ = ["network_for"]


def network_for(
    config: RunConfig, shape: tuple[int, int, int], *, num_classes: int, device: torch.device
) -> torch.nn.Module:
    """A network of ``config`` for images of ``shape`` (C, H, W), in the memory format asked for.

    Its weights say nothing: every round begins by overwriting them.
    """
    network: torch.nn.Module = build_unet(
        config.model,
        image_size=shape[-1],
        channels=shape[0],
        num_classes=num_classes,
        seeds=SeedTree(0),
    ).to(device)
    if config.training.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
