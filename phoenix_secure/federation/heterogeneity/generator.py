"""Shared images sampled from the model of an earlier run, with the privacy that its run claims."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phoenix_secure.data.images import from_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.saved_model import classes_in_turn, draw, load_any
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.files import sha256_of
from phoenix_secure.release.generator import FittedGenerator
from phoenix_secure.rng import SeedTree

__all__ = ["GeneratedImages", "sample_from_run"]

_GENERATOR = "generator.safetensors"
_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratedImages:
    """Samples, and what their generator's run says about its privacy."""

    images: SiteImages
    class_names: tuple[str, ...]
    facts: dict[str, Any]


def sample_from_run(
    path: Path, *, num_images: int, seeds: SeedTree, accept_non_private: bool
) -> GeneratedImages:
    """Sample ``num_images`` from the finished run in ``path``.

    Sampling is post-processing: samples of a differentially private model have its guarantee.
    A model without one may reproduce its training images, and is refused unless
    ``accept_non_private``.

    Raises:     ConfigError or CheckpointError naming the folder.
    """
    folder = RunFolder(path)
    folder.load_config()
    guarantee = read_summary(path).guarantee
    is_private = guarantee is not None and isinstance(guarantee.get("epsilon"), float)
    if not is_private and not accept_non_private:
        raise ConfigError(
            f"sharing.path: the model in {path} was trained without differential privacy (or with "
            "repeatable noise), and may reproduce private images: train it with privacy.unit, or "
            "set sharing.accept_raw_private_images=true"
        )
    drawn, labels, class_names, weights = _draw(folder, num_images=num_images, seeds=seeds)
    facts: dict[str, Any] = {
        "generator": {
            "weights_sha256": sha256_of(weights),
            "guarantee": guarantee["text"] if is_private and guarantee else "no formal guarantee",
        },
        "raw_private_images": not is_private,
    }
    if not is_private:
        facts["warning"] = (
            f"{num_images} samples of a model that was trained without differential privacy were "
            "given to every site; they may show private images"
        )
    return GeneratedImages(
        images=SiteImages(images=from_unit_range(drawn), labels=labels),
        class_names=class_names,
        facts=facts,
    )


def _draw(
    folder: RunFolder, *, num_images: int, seeds: SeedTree
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...], Path]:
    """Images in [-1, 1], their labels, the names of the classes, and the weights' file."""
    model = load_any(folder.model, device=torch.device("cpu"))
    labels = classes_in_turn(model, num_images)
    drawn = draw(
        model,
        num_images=num_images,
        generator=seeds.child("generator").torch(),
        class_labels=labels,
    )
    weights = _GENERATOR if isinstance(model, FittedGenerator) else _WEIGHTS
    return drawn, labels, model.class_names, folder.model / weights
