"""A trained model as a MONAI bundle: the format in which medical imaging passes models on.

::

    configs/metadata.json    what the network takes and answers, versions, the model's guarantee
    configs/inference.json   network and sampling, as MONAI's own commands run them
    models/model.pt          the weights: a state dict of tensors, which opens with weights_only
    models/*.json            the network's, the scheduler's and the sampling's settings
    scripts/                 the network and the pipeline, which need torch and diffusers alone
    docs/README.md, LICENSE

MONAI evaluates text in the files of ``configs`` that begins with ``$``. Nothing that comes from a
model's own files (names of classes, settings) is therefore in them, but for numbers.

Source:     MONAI bundle specification; metadata schema of 2024-07-25.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from phoenix_secure.diffusion import bundle_network, pipeline
from phoenix_secure.diffusion.bundle_network import BundleNetwork
from phoenix_secure.diffusion.model_folder import SavedModel
from phoenix_secure.errors import ConfigError
from phoenix_secure.files import replace_folder
from phoenix_secure.marks.origin import Origin
from phoenix_secure.printed_text import markdown_cell

__all__ = ["BUNDLE_SCHEMA", "save_bundle"]

BUNDLE_SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
_MONAI = "1.6.1"  # whose verifier the tests run
_NOT_STATED = "not stated by whoever exported it"


def save_bundle(
    model: SavedModel, path: Path, *, origin: Origin, window: tuple[float, float] | None = None
) -> None:
    """Write ``model`` as a bundle to ``path``, which must not be there yet.

    window      the stored values that are black and white to the model, such as Hounsfield units

    Guarantee:  ``path`` holds everything or, after an error, nothing; sampling from the bundle and
                from ``model`` gives the same images for the same noise.
    Raises:     ConfigError for a path that exists, and for a network of an extension, which nobody
                could open without its package; StorageError.
    """
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} is there already: name a new folder with --out")
    unet = model.pipeline.unet
    if not isinstance(unet, UNet2DModel):
        raise ConfigError(
            "a bundle holds a UNet2DModel, and this network is of an installed extension: "
            "export models with model.network = unet"
        )
    with replace_folder(path) as new:
        for folder in ("configs", "models", "scripts", "docs"):
            (new / folder).mkdir()
        _write_json(new / "models" / "network.json", _config(unet))
        _write_json(new / "models" / "scheduler.json", _config(model.pipeline.scheduler))
        _write_json(new / "models" / "sampling.json", _sampling(model, window))
        _write_json(new / "configs" / "metadata.json", _metadata(unet, origin))
        _write_json(new / "configs" / "inference.json", _inference())
        weights = {f"unet.{name}": value.cpu() for name, value in unet.state_dict().items()}
        BundleNetwork(new / "models").load_state_dict(weights)
        torch.save(weights, new / "models" / "model.pt")
        shutil.copy(Path(pipeline.__file__), new / "scripts" / "pipeline.py")
        shutil.copy(Path(bundle_network.__file__), new / "scripts" / "network.py")
        (new / "scripts" / "__init__.py").touch()
        (new / "docs" / "README.md").write_text(_readme(model, origin, window), encoding="utf-8")
        (new / "LICENSE").write_text(_LICENCE, encoding="utf-8")


def _config(part: Any) -> dict[str, Any]:
    """The settings of a part of a pipeline; the private ones name folders of this machine."""
    named = {name: value for name, value in part.config.items() if not name.startswith("_")}
    return {"_class_name": type(part).__name__, **named}


def _sampling(model: SavedModel, window: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "num_steps": model.sampling.num_steps,
        "guidance_scale": model.sampling.guidance_scale,
        "space_to_depth": int(getattr(model.pipeline.config, "space_to_depth", 1)),
        "class_names": list(model.class_names),
        "window": None if window is None else list(window),
    }


def _metadata(unet: Any, origin: Origin) -> dict[str, Any]:
    config = unet.config
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": int(config.in_channels),
        "spatial_shape": [int(config.sample_size)] * 2,
        "dtype": "float32",
        "value_range": [],  # noise is unbounded
        "is_patch_data": False,
        "channel_def": {},
    }
    number = {"spatial_shape": [1], "num_channels": 1, "dtype": "int64", "type": "tuples"}
    inputs = {
        "image": image,
        "timesteps": {**number, "format": "timesteps", "value_range": []},
    }
    if config.num_class_embeds is not None:
        limits = [0, int(config.num_class_embeds) - 1]
        inputs["class_labels"] = {**number, "format": "classes", "value_range": limits}
    return {
        "schema": BUNDLE_SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": "exported"},
        "monai_version": _MONAI,
        "pytorch_version": importlib.metadata.version("torch"),
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {"diffusers": importlib.metadata.version("diffusers")},
        "name": "Denoising diffusion model",
        "task": "Generate images like those that several data owners trained the model on together",
        "description": "The denoiser of a diffusion model, trained by federated learning. "
        f"Guarantee: {origin.guarantee or _NOT_STATED}",
        "authors": _NOT_STATED,
        "copyright": _NOT_STATED,
        "intended_use": "Synthetic images for research. Not for diagnosis",
        "references": ["Ho et al. (2020), Denoising Diffusion Probabilistic Models, 2006.11239"],
        "model_sha256": origin.model,
        "network_data_format": {"inputs": inputs, "outputs": {"pred": {**image}}},
    }


def _inference() -> dict[str, Any]:
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "output": "$@bundle_root + '/samples/samples.npy'",
        "num_images": 4,
        "seed": 0,
        "num_steps": None,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "scripts.network.BundleNetwork"},
        "weights": "$torch.load(@bundle_root + '/models/model.pt', weights_only=True)",
        "initialize": ["$@network_def.load_state_dict(@weights)"],
        "network": "$@network_def.to(@device)",
        "write": {
            "_target_": "scripts.network.write_samples",
            "path": "@output",
            "network": "@network",
            "num_images": "@num_images",
            "seed": "@seed",
            "num_steps": "@num_steps",
        },
        "run": ["$@write"],
    }


def _readme(model: SavedModel, origin: Origin, window: tuple[float, float] | None) -> str:
    classes = ", ".join(f"{k} {markdown_cell(name)}" for k, name in enumerate(model.class_names))
    low, high = window or (0, 1)
    unit = "the values of the training images" if window else "0 (black) to 1 (white)"
    return _README.format(
        guarantee=markdown_cell(origin.guarantee or _NOT_STATED),
        digest=origin.model,
        classes=classes or "none",
        low=low,
        high=high,
        unit=unit,
        schema=BUNDLE_SCHEMA,
        monai=_MONAI,
    )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


_README = """\
# Denoising diffusion model

A denoiser that several data owners trained together. It samples synthetic images.

- Guarantee: {guarantee}
- SHA-256 of the model that was exported: {digest}
- Classes: {classes}
- Samples are in {unit}: {low:g} is black, {high:g} is white.

## Use

MONAI {monai} or later and diffusers are needed; Phoenix Secure is not. In this folder:

    python -m monai.bundle run --config_file configs/inference.json --num_images 8

writes `samples/samples.npy`, (N, C, H, W) float32. What MONAI's verifiers say:

    python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath schema.json
    python -m monai.bundle verify_net_in_out network_def --meta_file configs/metadata.json \\
        --config_file configs/inference.json --extra_forward_args '{{"timesteps": 0}}'

`verify_metadata` fetches {schema} to `schema.json`, unless that file is there: without a network,
carry it there. `scripts/` is code, and MONAI runs it: read it, as in any bundle.

`models/model.pt` is a state dict of tensors (the format asks for this file). Open it with
`torch.load(..., weights_only=True)`, as MONAI does.
"""

_LICENCE = """\
The files in scripts/ are part of Phoenix Secure: Apache License, Version 2.0
(https://www.apache.org/licenses/LICENSE-2.0).

The weights are not: whoever exported them states here under which terms they may be used.
"""
