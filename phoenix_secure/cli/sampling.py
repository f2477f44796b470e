"""Opens a model and samples from it, for ``sample`` and ``evaluate``."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from rich.progress import Progress

from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.config import SamplingConfig
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.diffusion.model_folder import SavedModel, load_model
from phoenix_secure.diffusion.sampling import sample_images
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.pictures import save_grid, save_images
from phoenix_secure.release.generator import (
    DESCRIPTION,
    FittedGenerator,
    load_generator,
    sample_generated,
)
from phoenix_secure.workers import workers

__all__ = ["draw", "open_model", "sample"]


def open_model(path: Path, *, device: str) -> SavedModel | FittedGenerator:
    """A run's exported model, a release's generator, or any DDPM / DDIM pipeline folder."""
    folder = RunFolder(path)
    if folder.config_file.exists():
        if not folder.model.exists():
            raise CheckpointError(f"{path} has no model yet: finish it with `resume {path}`")
        path = folder.model
    if (path / DESCRIPTION).exists():
        return load_generator(path, device=pick_devices(device)[0])
    disable_progress_bar()  # loading takes a blink; sampling has a bar of its own
    return load_model(path, device=pick_devices(device)[0])


def draw(
    model: SavedModel | FittedGenerator,
    *,
    num_images: int,
    seed: int,
    sampling: SamplingConfig | None = None,
    class_labels: torch.Tensor | None = None,
    quiet: bool,
) -> np.ndarray:
    """Sample with a progress bar: (N, C, H, W) float32 in [-1, 1].

    ``sampling`` is the model's own by default; a release's generator has none.
    """
    bar = Progress(console=console, disable=quiet or not console.is_terminal)
    generator = torch.Generator().manual_seed(seed)
    with workers(num_cores()), bar:
        task = bar.add_task("sampling", total=num_images)
        if isinstance(model, FittedGenerator):
            return sample_generated(
                model,
                num_images=num_images,
                generator=generator,
                class_labels=None if class_labels is None else class_labels.numpy(),
                progress=lambda count: bar.advance(task, count),
            )
        if class_labels is None and model.class_names:
            class_labels = torch.arange(num_images) % len(model.class_names)
        return sample_images(
            model.pipeline,
            num_images=num_images,
            sampling=sampling or model.sampling,
            generator=generator,
            class_labels=class_labels,
            progress=lambda count: bar.advance(task, count),
        )


def sample(
    path: Path,
    *,
    num_images: int,
    out: Path,
    images_dir: Path | None,
    seed: int,
    num_steps: int | None,
    guidance_scale: float | None,
    class_name: str | None,
    device: str,
    output_format: Format,
) -> None:
    """Sample images and write them."""
    model = open_model(path, device=device)
    sampling = _sampling(model, num_steps=num_steps, guidance_scale=guidance_scale)
    labels = _labels_of(class_name, model, num_images) if class_name is not None else None
    is_json = output_format is Format.JSON
    images = from_unit_range(
        draw(
            model,
            num_images=num_images,
            seed=seed,
            sampling=sampling,
            class_labels=labels,
            quiet=is_json,
        )
    )
    save_grid(images, out)
    if images_dir is not None:
        save_images(images, images_dir)
    if is_json:
        print_json({"images": num_images, "grid": str(out), "seed": seed})
    else:
        console.print(f"{num_images} images: {out}")


def _sampling(
    model: SavedModel | FittedGenerator, *, num_steps: int | None, guidance_scale: float | None
) -> SamplingConfig | None:
    """The model's settings with the changes that were asked for.

    Raises:     ConfigError for changes that this model does not know.
    """
    changes = {"num_steps": num_steps, "guidance_scale": guidance_scale}
    asked = {name: value for name, value in changes.items() if value is not None}
    if isinstance(model, FittedGenerator):
        if asked:
            raise ConfigError(
                "--steps and --guidance are for diffusion models: a release's generator makes an "
                "image in one step; leave them out"
            )
        return None
    sampling = model.sampling.model_copy(update=asked)
    limit = model.pipeline.scheduler.config.num_train_timesteps
    if sampling.num_steps > limit:
        raise ConfigError(f"--steps {sampling.num_steps} exceeds the model's {limit}: lower it")
    return sampling


def _labels_of(
    class_name: str, model: SavedModel | FittedGenerator, num_images: int
) -> torch.Tensor:
    if not model.class_names:
        raise ConfigError("--class needs a class-conditional model, and this one is not")
    names = model.known_names if isinstance(model, FittedGenerator) else model.class_names
    if class_name not in names:
        close = difflib.get_close_matches(class_name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(names)}"
        raise ConfigError(f"--class {class_name!r} is not a class of this model: {hint}")
    return torch.full((num_images,), model.class_names.index(class_name))
