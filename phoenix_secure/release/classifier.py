"""A linear classifier of scattering features: it says which generated images show their class.

The weights w (d, K) are all that is trained, from zero; the probabilities are those of
softmax(150 x w), x having length 1. The factor is the size of a step: a learning rate of 1 suits.
"""

from __future__ import annotations

import numpy as np
import torch

from phoenix_secure.release.scattering import Scattering

__all__ = ["LinearClassifier", "probabilities", "rounded"]

FACTOR = 150.0
_WEIGHT_STEP = 2.0**-20


def rounded(weights: np.ndarray) -> np.ndarray:
    """Weights (d, K) as float64 in whole steps of 2^-20."""
    found: np.ndarray = np.rint(weights.astype(np.float64) / _WEIGHT_STEP) * _WEIGHT_STEP
    return found


def probabilities(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the classes (n, K) float64, for features (n, d) of length 1 and ``rounded`` weights (d, K)
    below 10,000.

    Guarantee:  for features in whole steps of 2^-12 or larger the row of one image is the same bits
                whatever rows come with it: the sums of all products are exact.
    """
    logits = FACTOR * (features @ weights)
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    # One addition after the other, as for any other row.
    total = powers[:, :1].copy()
    for k in range(1, powers.shape[1]):
        total += powers[:, k : k + 1]
    found: np.ndarray = powers / total
    return found


class LinearClassifier:
    """The classifier with the weights ``vector`` (d K,), as they are trained.

    Raises:     ValueError for another size or weights that are not finite.
    """

    def __init__(
        self, vector: np.ndarray, *, channels: int, image_size: int, num_classes: int
    ) -> None:
        self._features = Scattering(channels=channels, image_size=image_size)
        shape = self._features.size, num_classes
        if vector.shape != (shape[0] * shape[1],) or not np.isfinite(vector).all():
            raise ValueError(f"expected {shape[0]} x {shape[1]} finite weights")
        self.vector = vector.astype(np.float32)
        self._weights = rounded(self.vector.reshape(shape))
        self._soft_weights = torch.from_numpy(self._weights).float()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The most probable classes (n,) int64 of images (n, C, H, H) uint8."""
        found: np.ndarray = probabilities(self._features(images), self._weights).argmax(axis=1)
        return found.astype(np.int64)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(n, K) of images (n, C, H, H) in [0, 1] on the CPU: differentiable, by soft features."""
        found: torch.Tensor = FACTOR * (self._features.soft(images) @ self._soft_weights)
        return found
