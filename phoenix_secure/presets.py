"""Sizes of the U-Net that have been tried; ``model.preset`` names one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MODEL_PRESETS"]

MODEL_PRESETS: Mapping[str, Mapping[str, Any]] = {
    # A narrow full-resolution level keeps a CPU step short; most weights sit at 7x7 and 14x14.
    "tiny": {
        "block_channels": (16, 32, 64),
        "layers_per_block": 1,
        "attention": (False, False, False),
        "norm_groups": 8,
    },
    # The same budget with 2x2 pixels folded into channels: 14x14x4 in place of 28x28x1.
    "tiny-s2d": {
        "block_channels": (32, 64),
        "layers_per_block": 1,
        "attention": (False, False),
        "norm_groups": 8,
        "space_to_depth": 2,
    },
    "small": {
        "block_channels": (32, 64, 128),
        "layers_per_block": 1,
        "attention": (False, False, True),
        "norm_groups": 8,
    },
    "base": {
        "block_channels": (64, 128, 256),
        "layers_per_block": 2,
        "attention": (False, True, True),
        "norm_groups": 32,
    },
    # The U-Net of Ho et al. (2020) for CIFAR-10: 35.7 million parameters at 32x32x3.
    "cifar10": {
        "block_channels": (128, 256, 256, 256),
        "layers_per_block": 2,
        "attention": (False, True, False, False),
        "norm_groups": 32,
    },
}
