"""Pipelines as other people save them: 8x8 grey UNet2DModels, untrained or trained in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from numpy.typing import NDArray
from sklearn.datasets import load_digits


def small_unet(*, seed: int = 0, **changes: Any) -> UNet2DModel:
    """One level of width 8; ``changes`` are diffusers' own settings."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "add_attention": False,
    }
    return UNet2DModel(**{**settings, **changes})


def save(unet: UNet2DModel, path: Path, *, scheduler: Any = None, **options: Any) -> Path:
    DDPMPipeline(unet, scheduler or DDPMScheduler()).save_pretrained(path, **options)
    return path


def digits(first: int, last: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Some of scikit-learn's digits in a fixed random order: bytes (N, 8, 8) and classes."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))[first:last]
    pixels = np.round(found.images * 255 / 16).astype(np.uint8)
    return pixels[order], found.target[order].astype(np.int64)


def overfit(
    unet: UNet2DModel,
    pixels: NDArray[np.uint8],
    *,
    labels: NDArray[np.int64] | None = None,
    steps: int = 200,
    scale: str = "[-1, 1]",
    prediction: str = "epsilon",
) -> UNet2DModel:
    """``unet`` after ``steps`` of Adam on all ``pixels``, at the less noisy timesteps.

    scale         of the pixels in training: [-1, 1] as usual; [0, 1], [-0.5, 0.5] or standardised
                  (mean 0, deviation 1), as some tutorials have it
    prediction    what the network learns to answer
    """
    x = torch.from_numpy(pixels[:, None].astype(np.float32)) / 255
    x = {
        "[-1, 1]": 2 * x - 1,
        "[0, 1]": x,
        "[-0.5, 0.5]": x - 0.5,
        "standardised": (x - x.mean()) / x.std(),
    }[scale]
    scheduler = DDPMScheduler()
    optimizer = torch.optim.Adam(unet.parameters(), 1e-2)
    options = {} if labels is None else {"class_labels": torch.from_numpy(labels)}
    torch.manual_seed(1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (steps - step) / (0.4 * steps))
        noise, t = torch.randn(x.shape), torch.randint(0, 300, (len(x),))
        answer = unet(scheduler.add_noise(x, noise, t), t, **options).sample
        target = {
            "epsilon": noise,
            "v_prediction": scheduler.get_velocity(x, noise, t),
            "sample": x,
        }[prediction]
        loss = F.mse_loss(answer, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return unet
