"""The network and the sampler of a MONAI bundle.

This file is copied into the bundle's ``scripts`` folder, beside ``pipeline.py``, so that anyone
with MONAI and diffusers can use the model. It must therefore import nothing else of this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import UNet2DModel

from .pipeline import PhoenixPipeline

_MODELS = Path(__file__).resolve().parents[1] / "models"


class BundleNetwork(torch.nn.Module):
    """A diffusers UNet2DModel, called as MONAI calls its own DiffusionModelUNet."""

    def __init__(self, folder: str | Path = _MODELS) -> None:
        super().__init__()
        self.unet = UNet2DModel.from_config(_read(Path(folder) / "network.json"))

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor | float,
        context: torch.Tensor | None = None,
        class_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the model predicts for noisy images (B, C, H, W) at ``timesteps``, of one number or
        (B,); classes by number, or None for images of no class.

        Raises:     ValueError for a context: this network takes none.
        """
        if context is not None:
            raise ValueError("this network takes no context: leave it out")
        num_classes = self.unet.config.num_class_embeds
        if class_labels is None and num_classes is not None:
            class_labels = torch.full((len(x),), num_classes - 1, device=x.device)
        predicted: torch.Tensor = self.unet(x, timesteps, class_labels=class_labels).sample
        return predicted


def sample(
    network: BundleNetwork,
    *,
    num_images: int,
    seed: int,
    num_steps: int | None = None,
    folder: str | Path = _MODELS,
) -> np.ndarray[Any, Any]:
    """Images (N, C, H, W) float32, the classes in turn where the model has them.

    Units:      those that ``window`` in sampling.json maps to black and white; [0, 1] without one.
    """
    settings = _read(Path(folder) / "sampling.json")
    config = _read(Path(folder) / "scheduler.json")
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    pipeline = PhoenixPipeline(network.unet, scheduler, space_to_depth=settings["space_to_depth"])
    pipeline.set_progress_bar_config(disable=True)
    num_classes = len(settings["class_names"])
    network.eval()
    found = pipeline(
        batch_size=num_images,
        generator=torch.Generator().manual_seed(seed),
        num_inference_steps=num_steps or settings["num_steps"],
        class_labels=torch.arange(num_images) % num_classes if num_classes else None,
        guidance_scale=settings["guidance_scale"],
        output_type="np",
    ).images.transpose(0, 3, 1, 2)
    low, high = settings["window"] or (0, 1)
    values: np.ndarray[Any, Any] = (low + found * (high - low)).astype(np.float32)
    return values


def write_samples(path: str | Path, network: BundleNetwork, **options: Any) -> None:
    """Write what ``sample`` returns as a NumPy file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.save(path, sample(network, **options), allow_pickle=False)


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
