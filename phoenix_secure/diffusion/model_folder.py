"""A trained model as a diffusers pipeline folder, and back.

Weights are safetensors, everything else JSON. Loading never runs code from the folder: the
pipeline classes it may name are those listed here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, DDPMPipeline
from pydantic import ValidationError
from safetensors import SafetensorError

from phoenix_secure.config import SamplingConfig
from phoenix_secure.diffusion import pipeline as pipeline_module
from phoenix_secure.diffusion.network_folder import open_unet
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import replace_folder

__all__ = ["SavedModel", "load_model", "save_model"]

_PIPELINES = {
    "DDPMPipeline": DDPMPipeline,
    "DDIMPipeline": DDIMPipeline,
    "PhoenixPipeline": PhoenixPipeline,
}
_INFO = "phoenix.json"
_MAX_TIMESTEPS = 100_000
_WEIGHTS = "diffusion_pytorch_model"
_PLAIN = re.compile(rf"{_WEIGHTS}\.safetensors(\.index\.json)?")
# As diffusers names them: NAME.fp16.safetensors, NAME.fp16-00001-of-00002.safetensors, the index
# NAME.safetensors.index.fp16.json.
_VARIANT = re.compile(r"([A-Za-z0-9_]+)(?:-\d+-of-\d+)?\.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedModel:
    """A pipeline ready to sample, its sampling settings, and its classes (empty: none)."""

    pipeline: Any
    sampling: SamplingConfig
    class_names: tuple[str, ...]


def save_model(
    pipeline: Any, path: Path, *, sampling: SamplingConfig, class_names: Sequence[str] = ()
) -> None:
    """Write ``pipeline`` to the folder ``path``, replacing it atomically.

    Raises:     StorageError when the disk is full or the folder cannot be written.
    """
    with replace_folder(path) as new:
        _save_weights(pipeline, new)
        info = {
            "format": 1,
            "sampling": sampling.model_dump(mode="json"),
            "class_names": list(class_names),
        }
        (new / _INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        if isinstance(pipeline, PhoenixPipeline):
            shutil.copy(Path(pipeline_module.__file__), new / "pipeline.py")


def load_model(path: Path, *, device: torch.device) -> SavedModel:
    """Open a DDPM or DDIM pipeline folder, ours or anyone's, with safetensors weights.

    Raises:     CheckpointError naming the folder and the fix.
    """
    index = _read_json(path / "model_index.json", folder=path)
    name = str(index.get("_class_name"))
    if name not in _PIPELINES:
        raise CheckpointError(
            f"{path} holds a {name}: only {', '.join(_PIPELINES)} of UNet2DModel can be opened"
        )
    variant = _variant(path / "unet")
    if list((path / "unet").glob("*.bin")) and not list((path / "unet").glob("*.safetensors")):
        raise CheckpointError(
            f"the weights in {path} are pickled (.bin), which can run code and are never opened: "
            "load the pipeline where you trust it, and save it with safe_serialization=True"
        )
    _check_scheduler(path)
    try:
        parts = {}
        if index.get("unet") == ["diffusers", "UNet2DModel"]:
            parts["unet"] = open_unet(path / "unet", variant=variant)
        pipeline = _PIPELINES[name].from_pretrained(
            path,
            **parts,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
        )
    except CheckpointError:
        raise
    except Exception as error:  # diffusers raises many kinds for a damaged folder
        raise CheckpointError(
            f"cannot load the model in {path} ({type(error).__name__}): its files are missing or "
            "damaged, save it again (weights must be safetensors)"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    _check_network(pipeline.unet, path)
    sampling = SamplingConfig()
    class_names: tuple[str, ...] = ()
    if (path / _INFO).exists():
        info = _read_json(path / _INFO, folder=path)
        try:
            sampling = SamplingConfig.model_validate(info["sampling"])
            class_names = tuple(str(name) for name in info["class_names"])
        except (KeyError, TypeError, ValidationError) as error:
            raise CheckpointError(
                f"{path / _INFO} is damaged: delete it or export again"
            ) from error
    return SavedModel(pipeline=pipeline.to(device), sampling=sampling, class_names=class_names)


def _variant(folder: Path) -> str | None:
    """The variant of the weights, such as fp16, where no others are there.

    Raises:     CheckpointError where several are, and nobody says which is meant.
    """
    names = [file.name.removeprefix(f"{_WEIGHTS}.") for file in folder.glob(f"{_WEIGHTS}.*")]
    found = {match[1] for name in names if (match := _VARIANT.fullmatch(name))}
    is_plain = any(_PLAIN.fullmatch(f"{_WEIGHTS}.{name}") for name in names)
    if is_plain or list(folder.glob(f"{_WEIGHTS}-*")):
        return None
    if len(found) > 1:
        raise CheckpointError(
            f"{folder} holds weights in the variants {', '.join(sorted(found))}: leave one of them"
        )
    return found.pop() if found else None


def _check_network(unet: Any, path: Path) -> None:
    """Refuse what would end in a traceback later, or in figures of nothing."""
    if not all(torch.isfinite(weights).all() for weights in unet.state_dict().values()):
        raise CheckpointError(
            f"the weights in {path} hold NaN or infinity: the training behind them failed, or the "
            "file is damaged; use another checkpoint of it"
        )
    kind = getattr(unet.config, "class_embed_type", None)
    if kind is not None:
        raise CheckpointError(
            f"the model in {path} takes classes of the kind {kind}: only numbered classes "
            "(num_class_embeds) can be asked for"
        )
    size = unet.config.sample_size
    sides = [size] if size is None or isinstance(size, int) else size
    if not isinstance(sides, list | tuple) or not all(_is_side(side) for side in sides):
        raise CheckpointError(
            f"config.json of the network in {path} says sample_size {str(size)[:40]!r}: it must be "
            "the side of the images, a whole number"
        )
    if not isinstance(size, int) and size is not None and len(set(sides)) == 1:
        unet.register_to_config(sample_size=int(sides[0]))


def _is_side(side: Any) -> bool:
    return side is None or (type(side) is int and side > 0)


def _check_scheduler(path: Path) -> None:
    """Refuse more timesteps than any model has, for each of which numbers would be made."""
    file = path / "scheduler" / "scheduler_config.json"
    if not file.exists():
        return
    steps = _read_json(file, folder=path).get("num_train_timesteps", 1)
    if type(steps) is not int or not 0 < steps <= _MAX_TIMESTEPS:
        raise CheckpointError(
            f"{file} says num_train_timesteps {str(steps)[:40]}: expected a whole number, at most "
            f"{_MAX_TIMESTEPS:,}"
        )


def _save_weights(pipeline: Any, folder: Path) -> None:
    """diffusers' own writer, with safetensors' error for a full disk made an ``OSError`` again."""
    try:
        pipeline.save_pretrained(folder, safe_serialization=True)
    except SafetensorError as error:
        full = "os error 28" in str(error).lower() or "no space" in str(error).lower()
        code = errno.ENOSPC if full else errno.EIO
        raise OSError(code, os.strerror(code)) from error


def _read_json(file: Path, *, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is not a diffusers model folder: {file.name} is missing"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: export the model again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is damaged: export the model again")
    return content
