"""Real digits at a size that trains in milliseconds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from phoenix_secure.data.site_images import SiteImages


@pytest.fixture(scope="session")
def digits() -> SiteImages:
    """64 real 8x8 digits."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels[:64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return SiteImages(images=images, labels=labels[:64].astype(np.int64))
