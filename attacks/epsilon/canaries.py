"""Canaries: records or gradients planted so that a leak, if there is one, is seen.

Real records bound what the *average* person risks; a guarantee is about the worst, and canaries
stand in for that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.records import Images, Membership, Scores

__all__ = ["DiracCanaries", "InputCanary", "dirac_canaries", "draw_inclusion", "input_canaries"]


class InputCanary(Enum):
    """Images unlike any photograph."""

    NOISE = "independent uniform pixels"
    BINARY = "independent pixels of -1 and 1"
    BLOCKS = "4 x 4 blocks of one random colour"


def draw_inclusion(num_canaries: int, *, rng: np.random.Generator) -> Membership:
    """(m,) independent fair coins: True = train on the canary.

    Not "exactly half": a fixed number of ones makes the last coin known, and no bound holds.
    """
    if num_canaries < 1:
        raise ValueError(f"expected num_canaries >= 1, got {num_canaries}")
    return np.asarray(rng.random(num_canaries) < 0.5, dtype=np.bool_)


def input_canaries(
    num_canaries: int, *, shape: tuple[int, int, int], kind: InputCanary, rng: np.random.Generator
) -> Images:
    """(m, C, H, W) float32 images in [-1, 1], all different with overwhelming probability."""
    if num_canaries < 1 or len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected num_canaries >= 1 and (C, H, W), got {num_canaries}, {shape}")
    channels, height, width = shape
    match kind:
        case InputCanary.NOISE:
            x: NDArray[np.float64] = rng.uniform(-1, 1, (num_canaries, *shape))
        case InputCanary.BINARY:
            x = np.asarray(rng.integers(0, 2, (num_canaries, *shape)) * 2.0 - 1.0, dtype=np.float64)
        case InputCanary.BLOCKS:
            rows, columns = -(-height // 4), -(-width // 4)
            coarse = rng.uniform(-1, 1, (num_canaries, channels, rows, columns))
            blocks = coarse.repeat(4, axis=2).repeat(4, axis=3)
            x = np.asarray(blocks[:, :, :height, :width], dtype=np.float64)
    return np.ascontiguousarray(x, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiracCanaries:
    """Gradients with one non-zero coordinate each, of the largest norm that clipping lets through.

    Adding ``gradient(i)`` to the clipped sum of each step that canary i takes part in is the worst
    case of DP-SGD's analysis: nothing of it is lost to clipping or to other records.

    coordinates:    (m,) different indices into the flattened parameters.
    signs:          (m,) -1 or 1.
    Source:         Nasr et al. (2023), arXiv:2302.07956 (Dirac canary gradient).
    """

    coordinates: NDArray[np.int64]
    signs: NDArray[np.int64]
    clip_norm: float
    num_parameters: int

    def gradient(self, canary: int) -> NDArray[np.float64]:
        """(num_parameters,) with +- clip_norm at the canary's coordinate."""
        vector = np.zeros(self.num_parameters)
        vector[self.coordinates[canary]] = self.signs[canary] * self.clip_norm
        return vector

    def score(self, total: ArrayLike) -> Scores:
        """(m,) inner products with the unit canaries, larger = included.

        total:      (num_parameters,) the noisy gradient sums of the whole run, added up (gradients,
                    not parameter updates, which have the opposite sign).
        """
        vector = np.asarray(total, dtype=np.float64)
        if vector.shape != (self.num_parameters,):
            raise ValueError(f"total: expected ({self.num_parameters},), got {vector.shape}")
        observed = vector[self.coordinates]
        if not np.isfinite(observed).all():
            raise ValueError("total: contains NaN or infinity")
        return np.asarray(observed * self.signs, dtype=np.float64)


def dirac_canaries(
    num_canaries: int, *, num_parameters: int, clip_norm: float, rng: np.random.Generator
) -> DiracCanaries:
    """Draw ``num_canaries`` coordinates without replacement, and a sign for each."""
    if not 1 <= num_canaries <= num_parameters:
        raise ValueError(f"expected 1 <= num_canaries <= {num_parameters}, got {num_canaries}")
    if not (np.isfinite(clip_norm) and clip_norm > 0):
        raise ValueError(f"expected clip_norm > 0, got {clip_norm}")
    return DiracCanaries(
        coordinates=rng.choice(num_parameters, size=num_canaries, replace=False).astype(np.int64),
        signs=(rng.integers(0, 2, num_canaries) * 2 - 1).astype(np.int64),
        clip_norm=clip_norm,
        num_parameters=num_parameters,
    )
