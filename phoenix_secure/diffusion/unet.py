"""The network: diffusers' UNet2DModel, GroupNorm only, sized by the settings."""

from __future__ import annotations

import threading

import torch
from diffusers import UNet2DModel

from phoenix_secure.config import ModelConfig
from phoenix_secure.diffusion.own_network import OwnNetwork
from phoenix_secure.diffusion.start_model import kept_network
from phoenix_secure.errors import ConfigError
from phoenix_secure.rng import SeedTree

__all__ = ["build_unet", "num_parameters"]

_GLOBAL_GENERATOR = threading.Lock()


def build_unet(
    model: ModelConfig, *, image_size: int, channels: int, num_classes: int, seeds: SeedTree
) -> UNet2DModel | OwnNetwork:
    """A network on the CPU: freshly initialised, the same for the same ``seeds``; or the one that
    ``model.start`` names, with its weights.

    Shape:      takes (B, channels * s^2, image_size / s, image_size / s) with s = space_to_depth,
                a timestep and, when class_conditional, labels in 0..num_classes, where
                ``num_classes`` itself means "no label" (classifier-free guidance).
    Raises:     ConfigError when the image does not halve as often as the levels ask;
                CheckpointError where the model to start from is not kept on this machine.
    """
    if model.class_conditional and num_classes < 1:
        raise ConfigError("model.class_conditional needs labelled images: turn it off")
    if model.start is not None:
        return kept_network(model.start, form=(channels, image_size), num_classes=num_classes)
    if model.network != "unet":
        return _own(model, image_size, channels, num_classes, seeds=seeds)
    folds = model.space_to_depth * 2 ** (len(model.block_channels) - 1)
    if image_size % folds:
        raise ConfigError(
            f"data.image_size = {image_size} must be a multiple of {folds} for "
            f"{len(model.block_channels)} levels in model.block_channels and "
            f"model.space_to_depth = {model.space_to_depth}: change one of them"
        )
    down = tuple("AttnDownBlock2D" if on else "DownBlock2D" for on in model.attention)
    up = tuple("AttnUpBlock2D" if on else "UpBlock2D" for on in reversed(model.attention))
    folded_channels = channels * model.space_to_depth**2
    # torch initialises layers from its global generator only, so that one is lent and put back,
    # to one thread at a time: sites build their networks side by side.
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.child("initial-weights").entropy() % (1 << 63))
        return UNet2DModel(
            sample_size=image_size // model.space_to_depth,
            in_channels=folded_channels,
            out_channels=folded_channels,
            block_out_channels=model.block_channels,
            layers_per_block=model.layers_per_block,
            down_block_types=down,
            up_block_types=up,
            add_attention=model.mid_attention,
            attention_head_dim=None,
            norm_num_groups=model.norm_groups,
            num_class_embeds=num_classes + 1 if model.class_conditional else None,
        )


def _own(
    model: ModelConfig, image_size: int, channels: int, num_classes: int, *, seeds: SeedTree
) -> OwnNetwork:
    if model.space_to_depth != 1:
        raise ConfigError("model.space_to_depth folds pixels for the unet alone: leave it at 1")
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.child("initial-weights").entropy() % (1 << 63))
        network: OwnNetwork = OwnNetwork(
            network=model.network,
            sample_size=image_size,
            in_channels=channels,
            num_class_embeds=num_classes + 1 if model.class_conditional else None,
        )
    return network


def num_parameters(unet: torch.nn.Module) -> int:
    """Number of values that a site sends for one update of every parameter."""
    return sum(parameter.numel() for parameter in unet.parameters())
