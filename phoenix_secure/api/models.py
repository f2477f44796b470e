"""Opens a model and samples from it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from pydantic import ValidationError

from phoenix_secure.api.results import Samples
from phoenix_secure.config import SamplingConfig
from phoenix_secure.config.faults import explain
from phoenix_secure.data.deep_export import DeepScale
from phoenix_secure.data.export import DeepImages
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.data.inventory import read_window
from phoenix_secure.data.percentiles import Percentiles, as_window
from phoenix_secure.data.scale import Window
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.diffusion.bundle import save_bundle
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.run import saved_model
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.marks import encoder_of, origin_of
from phoenix_secure.federation.run.saved_model import AnyModel, classes_in_turn, load_any
from phoenix_secure.marks.marker import Marker
from phoenix_secure.marks.origin import Origin, model_digest
from phoenix_secure.pictures import Encode
from phoenix_secure.release.generator import FittedGenerator
from phoenix_secure.workers import workers

__all__ = ["draw", "export_bundle", "open_model", "sample"]


def open_model(path: Path, *, device: str = "auto") -> AnyModel:
    """A run's exported model, a release's generator, or any DDPM / DDIM pipeline folder.

    Raises:     CheckpointError naming the folder and the fix.
    """
    folder = RunFolder(path)
    if folder.config_file.exists():
        if not folder.model.exists():
            raise CheckpointError(f"{path} has no model yet: finish it with `resume {path}`")
        path = folder.model
    disable_progress_bar()  # loading takes a blink; sampling reports its own progress
    return load_any(path, device=pick_devices(device)[0])


def draw(
    model: AnyModel,
    *,
    num_images: int,
    seed: int,
    sampling: SamplingConfig | None = None,
    class_labels: np.ndarray | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> np.ndarray:
    """``saved_model.draw`` on all cores; the same ``seed`` gives the same images."""
    with workers(num_cores()):
        return saved_model.draw(
            model,
            num_images=num_images,
            generator=torch.Generator().manual_seed(seed),
            sampling=sampling,
            class_labels=class_labels,
            progress=progress,
        )


def sample(
    path: str | Path,
    num_images: int = 64,
    *,
    seed: int = 0,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    class_name: str | None = None,
    device: str = "auto",
    progress: Callable[[int], object] = lambda _: None,
) -> Samples:
    """Sample from a run, or from any diffusers DDPM or DDIM folder.

    num_steps, guidance_scale   as the model was saved, where left out
    class_name                  only this class, of a class-conditional model

    Guarantee:  the same model and seed give the same images on one machine.
    Raises:     ConfigError, CheckpointError.
    """
    if num_images < 1:
        raise ConfigError(f"num_images must be at least 1 (got {num_images})")
    model = open_model(Path(path).expanduser(), device=device)
    sampling = _sampling(model, num_steps=num_steps, guidance_scale=guidance_scale)
    labels = (
        classes_in_turn(model, num_images)
        if class_name is None
        else _labels_of(class_name, model, num_images)
    )
    images = draw(
        model,
        num_images=num_images,
        seed=seed,
        sampling=sampling,
        class_labels=labels,
        progress=progress,
    )
    return Samples(
        images=from_unit_range(images),
        encode=_encoder(Path(path).expanduser()),
        labels=labels,
        class_names=() if labels is None else tuple(model.class_names),
        deep=_deep(images, Path(path).expanduser()),
    )


def export_bundle(path: str | Path, out: str | Path | None = None) -> Path:
    """Write the model of a run, or of a diffusers DDPM or DDIM folder, as a MONAI bundle.

    out     a new folder; by default ``monai-bundle`` in the folder of the run

    Raises:     ConfigError for a path that exists, and a model that is no U-Net; CheckpointError.
    """
    path = Path(path).expanduser()
    folder = RunFolder(path)
    is_run = folder.config_file.exists()
    if out is None and not is_run:
        raise ConfigError(f"{path} is not a run folder: name a new folder with --out")
    model = open_model(path, device="cpu")
    if isinstance(model, FittedGenerator):
        raise ConfigError(
            f"{path} holds a release's generator, no U-Net: a bundle needs release.then = ddpm"
        )
    target = folder.path / "monai-bundle" if out is None else Path(out).expanduser()
    origin = origin_of(folder) if is_run else Origin(model=model_digest(path))
    save_bundle(model, target, origin=origin, window=_window(path))
    return target


def _deep(images: np.ndarray, path: Path) -> DeepImages | None:
    """Grey images of a run with a window, in 16 bits; None for anything else."""
    found = _window(path)
    if found is None or images.shape[1] != 1:
        return None
    scale = DeepScale.of(found)
    return DeepImages(pixels=scale.pixels(images), scale=scale)


def _window(path: Path) -> Window | None:
    """The stored values that are black and white to the model of a run; None without a window."""
    folder = RunFolder(path)
    if not folder.config_file.exists():
        return None
    found = as_window(folder.load_config().data.window)
    if isinstance(found, Percentiles):
        kept = folder.path / "inventory.json"
        return read_window(kept) if kept.exists() else None
    return found


def _encoder(path: Path) -> Encode:
    """What marks a picture with the model in ``path``, and with its run where it is one."""
    folder = RunFolder(path)
    if folder.config_file.exists():
        return encoder_of(folder)
    return Marker(Origin(model=model_digest(path)))


def _sampling(
    model: AnyModel, *, num_steps: int | None, guidance_scale: float | None
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
    if asked.get("guidance_scale", 1) != 1 and model.pipeline.unet.config.num_class_embeds is None:
        raise ConfigError("--guidance needs a class-conditional model, and this one is not")
    try:
        sampling = SamplingConfig.model_validate({**model.sampling.model_dump(), **asked})
    except ValidationError as error:
        raise ConfigError(f"sampling: {explain(error, of=SamplingConfig)}") from error
    limit = model.pipeline.scheduler.config.num_train_timesteps
    if sampling.num_steps > limit:
        raise ConfigError(f"--steps {sampling.num_steps} exceeds the model's {limit}: lower it")
    return sampling


def _labels_of(class_name: str, model: AnyModel, num_images: int) -> np.ndarray:
    if not model.class_names:
        raise ConfigError("--class needs a class-conditional model, and this one is not")
    names = model.known_names if isinstance(model, FittedGenerator) else model.class_names
    if class_name not in names:
        close = difflib.get_close_matches(class_name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(names)}"
        raise ConfigError(f"--class {class_name!r} is not a class of this model: {hint}")
    return np.full(num_images, model.class_names.index(class_name), np.int64)
