"""Models that runs start from: kept in the cache under the hash of what decides their samples.

::

    CACHE/models/SHA256/      a diffusers pipeline folder, and origin.json

The hash is over the network's form and weights, not over files: two folders of one model agree.
Whoever trains from a kept model checks it again, so that a plan's hash is as good as the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel
from diffusers.utils.logging import disable_progress_bar

from phoenix_secure.config import DiffusionConfig, StartConfig
from phoenix_secure.diffusion.model_folder import SavedModel, load_model, save_model
from phoenix_secure.diffusion.pipeline import PhoenixPipeline
from phoenix_secure.diffusion.schedule import alpha_bar
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.files import default_cache_dir, write_bytes

__all__ = ["FoundModel", "keep_model", "kept_network", "kept_start", "open_found"]

_ORIGIN = "origin.json"
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
_SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundModel:
    """A pipeline of UNet2DModel as a start: its hash, and the settings that go with it.

    model, diffusion    fields of ``ModelConfig`` and ``DiffusionConfig``
    """

    saved: SavedModel
    sha256: str
    model: Mapping[str, Any]
    diffusion: Mapping[str, Any]


def open_found(path: Path) -> FoundModel:
    """The model in the pipeline folder ``path``.

    Raises:     CheckpointError where it is missing, damaged or no UNet2DModel; ConfigError for a
                noising process that the settings cannot name.
    """
    disable_progress_bar()  # loading takes a blink
    saved = load_model(path, device=_CPU)
    unet = saved.pipeline.unet
    if not isinstance(unet, UNet2DModel):
        raise CheckpointError(f"{path} holds a {type(unet).__name__}: only UNet2DModel can start")
    factor = _space_to_depth(saved.pipeline)
    form = unet.config
    return FoundModel(
        saved=saved,
        sha256=_hash(form, dict(unet.named_parameters()), space_to_depth=factor),
        model={
            "block_channels": tuple(form.block_out_channels),
            "layers_per_block": form.layers_per_block,
            "attention": tuple("Attn" in name for name in form.down_block_types),
            "mid_attention": bool(form.add_attention),
            "norm_groups": form.norm_num_groups,
            "space_to_depth": factor,
            "class_conditional": form.num_class_embeds is not None,
        },
        diffusion=_process_of(saved.pipeline.scheduler, folder=path),
    )


def keep_model(found: FoundModel, start: StartConfig) -> None:
    """Put ``found`` where ``kept_network`` finds it; once is enough.

    Raises:     StorageError.
    """
    path = _place(found.sha256)
    if (path / _ORIGIN).exists():
        return
    saved = found.saved
    save_model(saved.pipeline, path, sampling=saved.sampling, class_names=saved.class_names)
    origin = start.model_dump(mode="json")
    write_bytes(path / _ORIGIN, (json.dumps(origin, sort_keys=True) + "\n").encode())


def kept_start(sha256: str) -> tuple[FoundModel, StartConfig]:
    """A kept model, and where it came from.

    Raises:     CheckpointError with the command that keeps one.
    """
    path = _place(sha256)
    try:
        text = (path / _ORIGIN).read_text(encoding="utf-8")
        start = StartConfig.model_validate_json(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(_absent(sha256)) from error
    found = open_found(path)
    if found.sha256 != sha256 or start.sha256 != sha256:
        raise CheckpointError(f"{path} is another model than its name says: delete it")
    return found, start


def kept_network(start: StartConfig, *, form: tuple[int, int], num_classes: int) -> UNet2DModel:
    """The network that a run starts from, with its weights; a new object each time.

    form    (channels, image size) of the run's images

    Raises:     CheckpointError where it is not kept here, or is another; ConfigError for images or
                classes that it is not made for.
    """
    config, weights, factor = _kept(start.sha256, default_cache_dir())
    channels, image_size = form
    has = config["in_channels"] // factor**2, config["sample_size"] * factor
    if has != form:
        raise ConfigError(
            f"model.init_from: the model is made for {has[1]}x{has[1]} images of {has[0]} "
            f"channel(s), these are {image_size}x{image_size} of {channels}: set "
            f"data.image_size={has[1]} and data.channels={has[0]}"
        )
    embedded = config["num_class_embeds"]
    if embedded is not None and embedded != num_classes + 1:
        raise ConfigError(
            f"model.init_from: the model knows {embedded - 1} classes, the images have "
            f"{num_classes}: start from a model of the same classes, or of none"
        )
    # On "meta" no initial weights are drawn: the global generator stays as it is.
    with torch.device("meta"):
        network: UNet2DModel = UNet2DModel(**config)
    network.load_state_dict({name: each.clone() for name, each in weights.items()}, assign=True)
    return network


@lru_cache(maxsize=4)
def _kept(sha256: str, cache_dir: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], int]:
    """Form, weights and fold of a kept model, checked once in a process."""
    if not (_place(sha256) / _ORIGIN).exists():
        raise CheckpointError(_absent(sha256))
    found, _ = kept_start(sha256)
    unet = found.saved.pipeline.unet
    return _form(unet.config), unet.state_dict(), found.model["space_to_depth"]


def _absent(sha256: str) -> str:
    return (
        f"the model {sha256[:16]} that the run starts from is not kept on this machine: get its "
        "folder, then `phoenix-secure models add FOLDER`"
    )


def _place(sha256: str) -> Path:
    return default_cache_dir() / "models" / sha256


def _space_to_depth(pipeline: Any) -> int:
    if isinstance(pipeline, PhoenixPipeline):
        return int(pipeline.config.space_to_depth)
    return 1


def _form(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the network, without names of files and versions."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _hash(
    config: Mapping[str, Any], parameters: Mapping[str, torch.Tensor], *, space_to_depth: int
) -> str:
    form = {"unet": _form(config), "space_to_depth": space_to_depth}
    digest = hashlib.sha256(json.dumps(form, sort_keys=True).encode())
    for name, value in parameters.items():
        digest.update(f"{name}:{tuple(value.shape)}:".encode())
        digest.update(np.ascontiguousarray(value.detach().numpy(), "<f4").data)
    return digest.hexdigest()


def _process_of(scheduler: Any, *, folder: Path) -> dict[str, Any]:
    """The noising process behind a pipeline's scheduler, as settings name it.

    Raises:     ConfigError where they cannot.
    """
    config = scheduler.config
    if type(scheduler).__name__.startswith("EDM"):
        return {"prediction": "edm", "edm_sigma_data": float(config.sigma_data)}
    prediction = _PREDICTIONS.get(str(config.prediction_type))
    schedule = _SCHEDULES.get(str(config.beta_schedule))
    if prediction is None or schedule is None:
        raise ConfigError(
            f"model.init_from: {folder} predicts {config.prediction_type} on the schedule "
            f"{config.beta_schedule}: only epsilon and v_prediction on linear and "
            "squaredcos_cap_v2 can be gone on from"
        )
    found = {
        "num_timesteps": int(config.num_train_timesteps),
        "schedule": schedule,
        "prediction": prediction,
    }
    ours = alpha_bar(DiffusionConfig.model_validate(found))
    theirs = scheduler.alphas_cumprod.double()
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6):
        raise ConfigError(
            f"model.init_from: {folder} has a {schedule} schedule with other ends than "
            "diffusion.schedule has: it cannot be gone on from"
        )
    return found
