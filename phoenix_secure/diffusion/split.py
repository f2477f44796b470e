"""A network's batch in pieces, so that several workers can compute one step of a sampler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from phoenix_secure.workers import even_slices, map_batches

__all__ = ["LARGEST_PIECE", "split_batches"]

# Halves of 33 images and more: from 16 rows on the matrix kernels round as for the whole batch.
LARGEST_PIECE = 32


@contextlib.contextmanager
def split_batches(network: torch.nn.Module) -> Iterator[None]:
    """Inside, a UNet2DModel on the CPU computes its batch in pieces, on ``workers`` if any.

    The sampler around it sees one batch and samples its noise as ever: samples do not depend on the
    number of workers.

    Guarantee:  pieces hold at most ``LARGEST_PIECE`` images and depend on the batch's size alone.
    """
    whole = network.forward

    def forward(sample: torch.Tensor, timestep: Any, **options: Any) -> Any:
        rows = len(sample)

        def piece(part: slice) -> Any:
            def of_part(value: Any) -> Any:
                is_rows = isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == rows
                return value[part] if is_rows else value

            chosen = {name: of_part(value) for name, value in options.items()}
            return whole(sample[part], of_part(timestep), **chosen)

        if sample.device.type != "cpu" or rows <= LARGEST_PIECE:
            return whole(sample, timestep, **options)
        parts = map_batches(piece, even_slices(rows, largest=LARGEST_PIECE), device=sample.device)
        return type(parts[0])(sample=torch.cat([part.sample for part in parts]))

    network.forward = forward
    try:
        yield
    finally:
        del network.forward
