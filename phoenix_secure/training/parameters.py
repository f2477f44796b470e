"""A network's trainable parameters, and their gradients, as one vector in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["flat_gradient", "flat_sum", "load_vector", "spread", "to_vector"]


def to_vector(network: torch.nn.Module) -> np.ndarray:
    """All parameters, flattened and joined in ``named_parameters`` order.

    Shape:      (d,) float32, a copy on the CPU.
    """
    vector = np.empty(_size(network), np.float32)
    with torch.no_grad():
        for parameter, part in _parts(network):
            torch.from_numpy(vector[part]).copy_(parameter.reshape(-1))
    return vector


def load_vector(network: torch.nn.Module, vector: np.ndarray) -> None:
    """Set every parameter from ``vector`` (the inverse of :func:`to_vector`).

    Raises:     ValueError when the vector is not (d,) float32 or not finite.
    """
    expected = _size(network)
    if vector.shape != (expected,) or vector.dtype != np.float32:
        raise ValueError(
            f"expected a float32 vector of {expected} parameters, got {vector.dtype} {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise ValueError("expected finite parameters")
    with torch.no_grad():
        for parameter, part in _parts(network):
            # torch cannot mark a tensor read-only, and the vector may be a view of a message: each
            # part is copied, and never the whole.
            parameter.copy_(torch.from_numpy(np.array(vector[part])).view(parameter.shape))


def flat_gradient(network: torch.nn.Module) -> torch.Tensor:
    """``parameter.grad`` of all parameters (d,) float32; zeros where there is none."""
    found = (p.new_zeros(p.shape) if p.grad is None else p.grad for p in network.parameters())
    return torch.cat([each.reshape(-1) for each in found])


def flat_sum(network: torch.nn.Module) -> torch.Tensor:
    """``parameter.summed_grad`` of all parameters (d,) float64; zeros where there is none."""
    parts = []
    for parameter in network.parameters():
        summed = getattr(parameter, "summed_grad", None)
        none = parameter.new_zeros(parameter.numel(), dtype=torch.float64)
        parts.append(none if summed is None else summed.reshape(-1))
    return torch.cat(parts)


def spread(flat: torch.Tensor, network: torch.nn.Module) -> list[torch.Tensor]:
    """Views of ``flat`` (d,) in the shapes of the parameters."""
    return [flat[part].view(parameter.shape) for parameter, part in _parts(network)]


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _parts(network: torch.nn.Module) -> Iterator[tuple[torch.nn.Parameter, slice]]:
    """Each parameter with its place in the vector."""
    start = 0
    for parameter in network.parameters():
        end = start + parameter.numel()
        yield parameter, slice(start, end)
        start = end
