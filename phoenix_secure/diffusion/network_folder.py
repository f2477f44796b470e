"""The U-Net in a model folder: every tensor from the files, and none left over.

diffusers fills tensors that a file lacks with whatever memory holds, and leaves out those that it
does not know: a network whose weights were saved under a wrapper would be one that never learned.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors import safe_open

from phoenix_secure.errors import CheckpointError

__all__ = ["open_unet"]

_WHOLE = "diffusion_pytorch_model.safetensors"
_ADAPTERS = "*lora*.safetensors"
_MIN_BYTES = 1 / 2  # of one weight in any format that is read


def open_unet(folder: Path, *, variant: str | None) -> UNet2DModel:
    """The UNet2DModel in ``folder``, whose weights are safetensors.

    Raises:     CheckpointError for weights that are not those of the network, or not all of them;
                whatever diffusers raises for damaged files.
    """
    _require_no_adapter(folder)
    if (folder / _WHOLE).exists() and (folder / f"{_WHOLE}.index.json").exists():
        raise CheckpointError(
            f"{folder} holds its weights whole and in shards: keep one of the two"
        )
    _require_weights_for(folder)
    network, told = UNet2DModel.from_pretrained(
        folder,
        variant=variant,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,
        output_loading_info=True,
    )
    for kind in ("missing", "unexpected"):
        if names := told[f"{kind}_keys"]:
            raise CheckpointError(
                f"the weights in {folder} are not those of the network in its config.json: "
                f"{len(names):,} {kind}, such as {min(names)[:80]}; load them where they were "
                "trained, out of any wrapper, and save the network with save_pretrained"
            )
    return network


def _require_no_adapter(folder: Path) -> None:
    for place in (folder.parent, folder):
        found = next(iter(sorted(place.glob(_ADAPTERS))), None)
        if found is not None:
            raise CheckpointError(
                f"{found} holds an adapter (LoRA) that would not be part of the network: merge it "
                "into the weights (fuse_lora), and save the pipeline without it"
            )


def _require_weights_for(folder: Path) -> None:
    """Refuse weights that are no floats, and a configuration that is larger than its files."""
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names: Collection[str] = opened.keys()
            kinds = {name: opened.get_slice(name).get_dtype() for name in names}
        for name, kind in kinds.items():
            if not kind.startswith(("F", "BF")):
                raise CheckpointError(
                    f"{file} holds {name[:80]} as {kind}: quantised weights cannot be read, save "
                    "the network in float16 or float32"
                )
    with torch.device("meta"):
        described = UNet2DModel.from_config(UNet2DModel.load_config(folder, local_files_only=True))
    num_weights = sum(math.prod(weights.shape) for weights in described.parameters())
    num_bytes = sum(file.stat().st_size for file in files)
    if files and num_weights * _MIN_BYTES > num_bytes:
        raise CheckpointError(
            f"config.json in {folder} describes a network of {num_weights:,} weights, and its "
            f"files hold {num_bytes:,} bytes: they are not of one model"
        )
