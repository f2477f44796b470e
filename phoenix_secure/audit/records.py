"""Images under attack, with the class that a class-conditional model may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Labels", "Records"]

Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """Shape: images (N, C, H, W) float32 in [-1, 1]; labels (N,), -1 for an unknown class."""

    images: NDArray[np.float32]
    labels: Labels | None = None

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Records:
        """Some of them, in order."""
        labels = None if self.labels is None else self.labels[rows]
        return Records(images=self.images[rows], labels=labels)

    def and_then(self, others: Records) -> Records:
        """These, then ``others``; classes are known where both know them."""
        labels: Labels | None = None
        if self.labels is not None and others.labels is not None:
            labels = np.concatenate([self.labels, others.labels])
        return Records(images=np.concatenate([self.images, others.images]), labels=labels)
