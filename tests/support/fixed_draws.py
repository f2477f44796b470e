"""Draws that are the same each time, so that neighbouring sets differ in one record alone."""

from __future__ import annotations

import numpy as np
import torch

from phoenix_secure.privacy.randomness import SeededRandomness

__all__ = ["FixedDraws"]


class FixedDraws:
    """Draws of which fewer images take the first: an image draws alike in any company."""

    name = "prefix"

    def __init__(self, *, num_normals: int) -> None:
        source = SeededRandomness(5)
        self._normals, self._words = source.normal(num_normals), source.integers(512, below=1 << 20)

    def normal(self, num: int) -> torch.Tensor:
        return self._normals[:num].clone()

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        return self._words[:num] % below

    def included(self, num: int, *, probability: float) -> np.ndarray:
        return np.arange(num)
