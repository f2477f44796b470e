"""Compares a run's, a model's or a folder's images with real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from phoenix_secure.api.models import draw, open_model
from phoenix_secure.api.results import Quality
from phoenix_secure.config_file import parse_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.data.sources import DATASETS, load_images, load_run_images
from phoenix_secure.data.split import load_split
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.federation.run.evaluation import feature_extractor
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.metrics.quality import compare
from phoenix_secure.release.generator import DESCRIPTION
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["evaluate"]


def evaluate(
    target: str | Path,
    *,
    reference: str | Path | None = None,
    num_images: int = 500,
    seed: int = 0,
    extractor: str = "efficientnet-lite0",
    inception_weights: Path | None = None,
    device: str = "auto",
    progress: Callable[[int], object] = lambda _: None,
) -> Quality:
    """KID, Frechet distance, precision, recall, density and coverage of ``target``'s images.

    target      a run, a diffusers model folder, or a folder (or .npz) of images
    reference   real images to compare with: a run, a folder, an .npz, a data set's name; a run
                brings its own

    Raises:     ConfigError, DataError, CheckpointError.
    """
    target = Path(target).expanduser()
    settings = parse_config(
        {
            "evaluation": {
                "extractor": extractor,
                "inception_weights": str(inception_weights) if inception_weights else None,
            }
        },
        source="options",
    ).evaluation
    is_run = RunFolder(target).config_file.exists()
    if reference is None and not is_run:
        raise ConfigError(f"{target} is not a run folder: name the real images with --reference")
    is_model = any((target / name).exists() for name in ("model_index.json", DESCRIPTION))
    images = None if is_run or is_model else _images_of(target)
    shape = None if images is None else (images.image_size, images.channels)
    real, held_out = _real_images(str(reference or target), seed=seed, shape=shape)
    size = min(num_images, len(real), len(held_out), images.num_images if images else num_images)
    if images is None:
        model = open_model(target, device=device)
        generated = draw(model, num_images=size, seed=seed, progress=progress)
    else:
        generated = to_unit_range(images.images[:size])
    if generated.shape[1:] != real.shape[1:]:
        raise DataError(
            f"{target} gives images of shape {generated.shape[1:]} and the reference "
            f"{real.shape[1:]}: give reference images of the same size and channels"
        )
    with workers(num_cores()):
        table = compare(
            generated,
            reference=real[:size],
            held_out=held_out[:size],
            extractor=feature_extractor(settings, device=pick_devices(device)[0]),
            rng=SeedTree(seed).child("evaluation").numpy(),
        )
    return Quality(table.to_dict())


def _images_of(folder: Path) -> ImageSet:
    name = "npz" if folder.suffix.lower() == ".npz" else "image-folder"
    return load_images(name, path=str(folder), cache_dir=default_cache_dir())


def _real_images(
    reference: str, *, seed: int, shape: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Reference and held-out images in [-1, 1]: a run's own split, or two random halves."""
    cache_dir = default_cache_dir()
    folder = RunFolder(Path(reference).expanduser())
    if folder.config_file.exists():
        config = folder.load_config()
        image_set = load_run_images(config.data, seed=config.seed, cache_dir=cache_dir)
        split = load_split(folder.split_file, image_set=image_set)
        real, held_out = split.reference, split.held_out
    else:
        size, channels = shape or (None, None)
        if reference in DATASETS:
            image_set = load_images(
                reference, image_size=size, channels=channels, cache_dir=cache_dir
            )
        else:
            image_set = _images_of(Path(reference).expanduser())
        order = SeedTree(seed).child("reference").numpy().permutation(image_set.num_images)
        real, held_out = np.array_split(order, 2)
    if min(len(real), len(held_out)) == 0:
        raise DataError(f"{reference} has no held-out images: name others with --reference")
    return tuple(to_unit_range(image_set.take(part).images) for part in (real, held_out))  # type: ignore[return-value]
