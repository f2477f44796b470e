"""Parts of a network by name: which coordinates of the parameter vector a pattern stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import numpy as np
import torch

from phoenix_secure.errors import ConfigError

__all__ = ["GROUPS", "Layout", "layout_of", "select"]

# Of diffusers' UNet2DModel. The last layers are those of the paper; "{last}" is the up block that
# works at full resolution.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "last-layers": ("conv_norm_out.*", "conv_out.*"),
    "norms": ("*.norm1.*", "*.norm2.*", "*.group_norm.*", "conv_norm_out.*"),
    "decoder-tail": ("up_blocks.{last}.*", "conv_norm_out.*", "conv_out.*"),
    "encoder": ("conv_in.*", "down_blocks.*"),
    "middle": ("mid_block.*",),
    "decoder": ("up_blocks.*", "conv_norm_out.*", "conv_out.*"),
    "embeddings": ("time_embedding.*", "class_embedding.*"),
}

# (name, size) of every tensor, in the order of the parameter vector.
Layout = tuple[tuple[str, int], ...]


def layout_of(network: torch.nn.Module) -> Layout:
    """Names and sizes in the order of ``training.parameters.to_vector``."""
    return tuple((name, parameter.numel()) for name, parameter in network.named_parameters())


def select(layout: Layout, patterns: Iterable[str], *, setting: str) -> np.ndarray:
    """The coordinates of every tensor that one of ``patterns`` names: (d,) bool.

    Raises:     ConfigError naming ``setting`` for a pattern that names no tensor.
    """
    names = [name for name, _ in layout]
    chosen: set[str] = set()
    for pattern in patterns:
        globs = _globs(pattern, names)
        found = {name for name in names if any(fnmatchcase(name, glob) for glob in globs)}
        if not found:
            raise ConfigError(
                f"{setting}: {pattern!r} names no parameter of this network: use one of "
                f"{', '.join(GROUPS)}, or a name such as {names[-1]}"
            )
        chosen |= found
    return np.repeat(
        np.array([name in chosen for name in names], bool), [size for _, size in layout]
    )


def _globs(pattern: str, names: list[str]) -> tuple[str, ...]:
    blocks = [int(name.split(".")[1]) for name in names if name.startswith("up_blocks.")]
    last = str(max(blocks, default=0))
    return (
        tuple(glob.format(last=last) for glob in GROUPS[pattern])
        if pattern in GROUPS
        else (pattern,)
    )
