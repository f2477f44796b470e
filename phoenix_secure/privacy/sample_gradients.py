"""Gradients of n images for one parameter, in the form in which its layer finds them.

Clipping needs two things of them: every image's squared norm, and their sum weighted by factors.
Neither asks for n whole gradients in memory where a layer can do with less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch

__all__ = [
    "Instantiated",
    "Recomputed",
    "SampleGradient",
    "Space",
    "squared_norms",
    "weighted_sums",
]

# Numbers in float64 at a time: on the CPU as many as its cache holds.
_CACHED, _ON_DEVICE = 1 << 18, 1 << 26
# Squares that are added in float32, 2^-24 of error each at most: 4e-6 of a norm in all, whatever
# the library's order. Of all at once it could be many times what clipping leaves room for.
_SQUARES = 128
# Numbers of one image up to which gradients for several parameters are treated as one.
_SMALL = 1024


class SampleGradient(Protocol):
    """n gradients of one parameter; each depends on its own image alone."""

    def squares(self) -> torch.Tensor:
        """Squared L2 norm of each (n,) float64."""

    def weighted_sum(self, factor: torch.Tensor) -> torch.Tensor:
        """Sum of ``factor`` (n,) float64 times each, in float64 and the parameter's shape.

        An image of factor zero adds zeros, whatever its gradient is: zero times infinity, too.
        """

    def instantiated(self) -> torch.Tensor:
        """All of them (n, *shape)."""

    def in_memory(self) -> Instantiated:
        """All of them as they lie in memory."""


class Space:
    """Memory for the gradients of one chunk after the other.

    New memory costs as much time as what is written into it: it is taken once.
    """

    def __init__(self) -> None:
        self._numbers: torch.Tensor | None = None

    def like(self, other: torch.Tensor, *shape: int) -> torch.Tensor:
        """A tensor of ``shape`` of the device and type of ``other``; those before are written
        over."""
        num, held = math.prod(shape), self._numbers
        here = other.dtype, other.device
        if held is None or held.numel() < num or (held.dtype, held.device) != here:
            held = self._numbers = other.new_empty(num)
        return held[:num].view(shape)


class Instantiated:
    """n whole gradients.

    values    (n, ...) contiguous, in any order of a gradient's dimensions
    order     dimensions of ``values`` in the parameter's order, the images' first; None: as is
    shape     of the parameter, where it is not that of ``values``

    Raises:     RuntimeError on use after ``values`` were written over.
    """

    def __init__(
        self,
        values: torch.Tensor,
        *,
        order: tuple[int, ...] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._values = values
        self._order = order
        self._shape = values.shape[1:] if shape is None else shape
        self._version = values._version
        # Of large ones at once, while they are in the cache.
        self._squares = self._new_squares() if values.numel() > _SMALL * len(values) else None

    @property
    def is_small(self) -> bool:
        """Whether calls cost more than numbers."""
        return self._squares is None

    def squares(self) -> torch.Tensor:
        return self._new_squares() if self._squares is None else self._squares

    def _new_squares(self) -> torch.Tensor:
        flat = self._flat()
        whole = flat.shape[1] - flat.shape[1] % _SQUARES
        pieces = flat[:, :whole].view(len(flat), -1, _SQUARES)
        found: torch.Tensor = torch.linalg.vector_norm(pieces, dim=2).double().square().sum(1)
        if whole < flat.shape[1]:
            found += torch.linalg.vector_norm(flat[:, whole:], dim=1).double().square()
        return found

    def weighted_sum(self, factor: torch.Tensor) -> torch.Tensor:
        flat = self._flat()
        left_out = (factor == 0).nonzero().flatten()
        most = _CACHED if factor.device.type == "cpu" else _ON_DEVICE
        columns = min(max(1, most // len(factor)), flat.shape[1])
        buffer = factor.new_empty(len(factor), columns)
        total = factor.new_empty(flat.shape[1])
        for start in range(0, flat.shape[1], columns):
            piece = flat[:, start : start + columns]
            part = buffer[:, : piece.shape[1]].copy_(piece)
            part.index_fill_(0, left_out, 0.0)
            torch.mv(part.T, factor, out=total[start : start + columns])
        return self._in_order(total.view(1, *self._values.shape[1:]))[0]

    def instantiated(self) -> torch.Tensor:
        return self._in_order(self.values)

    def in_memory(self) -> Instantiated:
        return self

    @property
    def values(self) -> torch.Tensor:
        return self._flat().view(self._values.shape)

    def with_values(self, values: torch.Tensor) -> Instantiated:
        """Other gradients in the same order: their norms are added in the same order, too."""
        return Instantiated(values, order=self._order, shape=self._shape)

    def _flat(self) -> torch.Tensor:
        if self._values._version != self._version:
            raise RuntimeError("these gradients of single images were written over")
        return self._values.flatten(1)

    def _in_order(self, values: torch.Tensor) -> torch.Tensor:
        if self._order is None:
            return values
        return values.permute(self._order).reshape(len(values), *self._shape)


class Recomputed:
    """Gradients that are found twice and kept never: of layers with more weights than memory.

    Source:     Bu et al. (2023), book-keeping, arXiv:2210.00038, which keeps a layer's input and
                the gradient of its output. Its weighted backward pass adds images in float32, where
                rounding depends on company; here images are found one by one in both passes.
    """

    def __init__(self, find: Callable[[], SampleGradient]) -> None:
        self._find = find
        self._squares = find().squares()

    def squares(self) -> torch.Tensor:
        return self._squares

    def weighted_sum(self, factor: torch.Tensor) -> torch.Tensor:
        return self._find().weighted_sum(factor)

    def instantiated(self) -> torch.Tensor:
        return self._find().instantiated()

    def in_memory(self) -> Instantiated:
        return self._find().in_memory()


def squared_norms(samples: Mapping[str, SampleGradient]) -> torch.Tensor:
    """Squared L2 norm of each image's gradient for all parameters together (n,) float64."""
    small, others = _split(samples)
    found = [sample.squares() for sample in others.values()]
    if small:
        found.append(_joined(small).squares())
    # One after the other: a library's sum over many takes another order at the end of a vector.
    total = torch.zeros_like(found[0])
    for squares in found:
        total += squares
    return total


def weighted_sums(
    samples: Mapping[str, SampleGradient], factor: torch.Tensor
) -> dict[str, torch.Tensor]:
    """``weighted_sum`` of each."""
    small, others = _split(samples)
    found = {name: sample.weighted_sum(factor) for name, sample in others.items()}
    if small:
        shapes = {name: sample.instantiated().shape[1:] for name, sample in small.items()}
        together = _joined(small).weighted_sum(factor)
        parts = torch.split(together, [math.prod(shape) for shape in shapes.values()])
        for (name, shape), part in zip(shapes.items(), parts, strict=True):
            found[name] = part.view(shape)
    return found


def _split(
    samples: Mapping[str, SampleGradient],
) -> tuple[dict[str, Instantiated], dict[str, SampleGradient]]:
    """The small ones, and the others."""
    small = {n: s for n, s in samples.items() if isinstance(s, Instantiated) and s.is_small}
    return small, {n: s for n, s in samples.items() if n not in small}


def _joined(small: Mapping[str, Instantiated]) -> Instantiated:
    return Instantiated(torch.cat([s.instantiated().flatten(1) for s in small.values()], dim=1))
