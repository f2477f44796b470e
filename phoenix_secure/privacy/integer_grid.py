"""Whole numbers in place of real vectors, whose sums have an exact sensitivity.

Each record's vector is rounded and its norm checked in whole numbers *before* anything is added: no
rounding error of a sum is left to bound, and no order of additions matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["IntegerGrid", "IntegerSums"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class IntegerSums:
    """One site's words (w,) int64, before noise."""

    words: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerGrid:
    """The grid of one mechanism.

    steps         no record's vector is longer than this, in steps
    count_step    a record counts as so many steps beside its vector; 0: it is not counted
    limit         no word of a site's sums is larger in absolute value: what is beyond is cut off,
                  coordinate by coordinate, which moves two neighbours no further apart
    """

    steps: int
    limit: int
    count_step: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.steps < 1 << 24 and 0 <= self.count_step < 1 << 24 and self.limit > 0):
            raise ValueError("expected 0 < steps < 2^24, 0 <= count_step < 2^24 and limit > 0")

    @property
    def squared_sensitivity(self) -> int:
        """Of adding or removing one record."""
        return self.steps**2 + self.count_step**2

    def feature_scale(self, size: int) -> float:
        """Steps of one unit of a vector (size,): rounding to the nearest adds sqrt(size) / 2 at
        most.

        Raises:     ValueError where rounding would leave nothing.
        """
        scale = self.steps - math.sqrt(size) / 2
        if scale <= 0:
            raise ValueError("expected more steps than half the root of the number of words")
        return scale

    def round(self, vectors: np.ndarray) -> np.ndarray:
        """Whole numbers (b, D) int64 for vectors (b, D) of norm at most 1.

        Guarantee:  the squared norm of every row, computed in whole numbers, is at most steps^2;
                    a row for which it would not be enters zeros.
        """
        rounded = np.rint(vectors * self.feature_scale(vectors.shape[1]))
        # Written so that NaN is not within. What is left has squares that add up below 2^50.
        rough = np.einsum("bd,bd->b", rounded, rounded)
        rounded[~(rough <= 2.0 * self.steps**2)] = 0
        words = rounded.astype(np.int64)
        words[np.einsum("bd,bd->b", words, words) > self.steps**2] = 0
        return words

    def cut_off(self, sums: np.ndarray) -> np.ndarray:
        """A site's ``sums`` within ``limit``."""
        within: np.ndarray = np.clip(sums, -self.limit, self.limit)
        return within
