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

    def round_together(
        self, vectors: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One record that consists of several: sums (r, D) and numbers (r,) of its parts in r
        places, scaled down by one divisor until they count as one. Whole numbers (r, D), (r,).

        Guarantee:  the squared norms of all words, computed in whole numbers, are at most steps^2
                    and count_step^2; a record for which one would not be enters zeros in its place.
                    A single part of norm at most 1 becomes what ``round`` makes of it, and the
                    ratio of sums and numbers is kept, but for rounding.
        Raises:     ValueError for r = 0 or numbers below 1.
        """
        if not len(counts) or counts.min() < 1 or vectors.ndim != 2 or len(vectors) != len(counts):
            raise ValueError("expected as many vectors as numbers, each of 1 or more")
        scale = self.feature_scale(vectors.shape[1])
        # Rounding lengthens by half the root of all words that it changes.
        longest = max(0.0, self.steps - math.sqrt(vectors.size) / 2) / scale
        norm = math.sqrt(float(np.square(vectors).sum()))
        numbers = math.sqrt(float(np.square(counts.astype(np.float64)).sum()))
        divisor = max(1.0, numbers, norm / longest if longest else math.inf)
        if not math.isfinite(norm):  # it enters zeros
            vectors = np.zeros_like(vectors)
        rounded = np.rint(vectors / divisor * scale)
        if not float(np.square(rounded).sum()) <= 2.0 * self.steps**2:
            rounded = np.zeros_like(rounded)
        words = rounded.astype(np.int64)
        if int(np.square(words).sum()) > self.steps**2:
            words[:] = 0
        counted = np.floor(self.count_step * counts / divisor).astype(np.int64)
        if int(np.square(counted).sum()) > self.count_step**2:
            counted[:] = 0
        return words, counted

    def cut_off(self, sums: np.ndarray) -> np.ndarray:
        """A site's ``sums`` within ``limit``."""
        within: np.ndarray = np.clip(sums, -self.limit, self.limit)
        return within
