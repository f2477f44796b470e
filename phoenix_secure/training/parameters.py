"""A network's trainable parameters as one float32 vector, in a fixed order."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["load_vector", "to_vector"]


def to_vector(network: torch.nn.Module) -> np.ndarray:
    """All parameters, flattened and joined in ``named_parameters`` order.

    Shape:      (d,) float32, a copy on the CPU.
    """
    with torch.no_grad():
        flat = [parameter.detach().reshape(-1).float().cpu() for parameter in network.parameters()]
    return torch.cat(flat).numpy().copy()


def load_vector(network: torch.nn.Module, vector: np.ndarray) -> None:
    """Set every parameter from ``vector`` (the inverse of :func:`to_vector`).

    Raises:     ValueError when the vector is not (d,) float32 or not finite.
    """
    expected = sum(parameter.numel() for parameter in network.parameters())
    if vector.shape != (expected,) or vector.dtype != np.float32:
        raise ValueError(
            f"expected a float32 vector of {expected} parameters, got {vector.dtype} {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise ValueError("expected finite parameters")
    # torch cannot mark a tensor read-only, and the vector may be a view of a message.
    flat = torch.from_numpy(np.array(vector))
    start = 0
    with torch.no_grad():
        for parameter in network.parameters():
            size = parameter.numel()
            parameter.copy_(flat[start : start + size].view_as(parameter))
            start += size
