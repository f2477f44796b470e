"""Cache of image features, which every evaluation needs again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from phoenix_secure.metrics.checked import Images, check_images
from phoenix_secure.metrics.features import FeatureExtractor

__all__ = ["FeatureCache"]


class FeatureCache:
    """A ``FeatureExtractor`` that computes the features of the same images once.

    An evaluation every few rounds meets the same reference, held-out and noise images; only the
    generated ones are new. The least recently used of ``num_sets`` sets is forgotten first.

    Guarantee:  the features are those of ``extractor``, read-only; images are recognised by
                SHA-256 over shape and pixels, and are not kept themselves.
    Raises:     ValueError for num_sets < 1; DataError for images that no extractor accepts.
    """

    def __init__(self, extractor: FeatureExtractor, *, num_sets: int = 4) -> None:
        if num_sets < 1:
            raise ValueError(f"expected num_sets >= 1, got {num_sets}")
        self.name = extractor.name
        self.dim = extractor.dim
        self._extractor = extractor
        self._num_sets = num_sets
        self._features: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()

    def __call__(self, images: Images, /) -> npt.NDArray[np.float32]:
        """Features of ``images``, from memory where they were asked for before."""
        pixels = check_images(images, what="images")
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(pixels.data)
        key = digest.digest()
        if key not in self._features:
            features = self._extractor(pixels)
            features.flags.writeable = False
            self._features[key] = features
            if len(self._features) > self._num_sets:
                self._features.popitem(last=False)
        self._features.move_to_end(key)
        return self._features[key]
