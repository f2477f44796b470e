"""Clips an update: its norm, then each coordinate.

One pass finds what is to be done; it is then done to any part of the update by itself, so that
nothing needs a second copy of a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Clipping", "clip_update"]

_CHUNK = 1 << 20
Read = Callable[[int, int], np.ndarray]


def clip_update(
    delta: np.ndarray, *, clip_norm: float, clip_value: float, factor: float = 1.0
) -> tuple[np.ndarray, bool]:
    """Divide ``delta`` by ``factor``, scale it down to the L2 norm ``clip_norm``, then limit each
    coordinate.

    Shape:      (d,) float32 in and out, a copy.
    Guarantee:  the norm of the result is at most clip_norm (but for float32 rounding), no
                coordinate exceeds clip_value; an update within both is only divided. No finite
                update overflows, whatever the factor: an error would tell of its size.
    Returns:    the clipped update, and whether anything was clipped.
    Raises:     ValueError for bounds that are not positive or an update that is not finite.
    Source:     McMahan et al. (2018), Algorithm 1, arXiv:1710.06963 (the norm).
    """
    clipping = Clipping.of(
        lambda start, stop: delta[start:stop],
        size=delta.size,
        clip_norm=clip_norm,
        clip_value=clip_value,
        factor=factor,
    )
    return clipping.apply(delta), clipping.was_clipped


@dataclass(frozen=True, kw_only=True, slots=True)
class Clipping:
    """What ``clip_update`` does to each coordinate of one update."""

    ratio: float
    limit: np.float32
    is_far: bool
    was_clipped: bool

    @classmethod
    def of(
        cls, read: Read, *, size: int, clip_norm: float, clip_value: float, factor: float
    ) -> Clipping:
        """From one pass over the update; ``read(start, stop)`` gives its coordinates."""
        if not (clip_norm > 0 and clip_value > 0 and factor > 0):
            raise ValueError(f"expected clips > 0, got {clip_norm} and {clip_value}")
        squares, largest = [], np.float32(0)
        # In chunks of fixed size: float64 without a second copy, and the same bits every time.
        room = np.empty(min(size, _CHUNK))
        for start in range(0, size, _CHUNK):
            part = read(start, min(start + _CHUNK, size))
            square = np.square(part, dtype=np.float64, out=room[: part.size])
            squares.append(float(square.sum()))
            largest = max(largest, np.float32(part.max()), np.float32(-part.min()))
        norm = math.sqrt(math.fsum(squares))
        if not math.isfinite(norm):
            raise ValueError("expected a finite update")
        is_over = norm > clip_norm * factor
        ratio = clip_norm / norm if is_over else 1 / factor
        limit = np.float32(clip_value)
        if float(limit) > clip_value:  # the nearest float32 may lie above it
            limit = np.nextafter(limit, np.float32(0))
        if ratio != 1:  # rounding keeps the order: the largest is still the largest
            with np.errstate(over="ignore"):
                largest = np.float32(np.float64(largest) * ratio)
        is_far = bool(largest > limit)
        return cls(ratio=ratio, limit=limit, is_far=is_far, was_clipped=is_over or is_far)

    def apply(self, part: np.ndarray) -> np.ndarray:
        """These coordinates clipped, a copy in float32."""
        clipped = part.astype(np.float32)
        if self.ratio != 1:
            for start in range(0, clipped.size, _CHUNK):
                chunk = clipped[start : start + _CHUNK]
                chunk[:] = np.multiply(chunk, self.ratio, dtype=np.float64)
        if self.is_far:
            np.clip(clipped, -self.limit, self.limit, out=clipped)
        return clipped
