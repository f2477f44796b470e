"""Real images for the tests of this folder, and files made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data.bundled import load_digits, load_mnist_5k
from phoenix_secure.data.images import ImageSet


@pytest.fixture(scope="session")
def mnist_5k() -> ImageSet:
    return load_mnist_5k()


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_digits()


@pytest.fixture
def class_folder(tmp_path: Path, mnist_5k: ImageSet) -> Path:
    """Three MNIST images of each of the classes 0, 1 and 2 as PNG files."""
    root = tmp_path / "pictures"
    for label in range(3):
        (root / f"digit {label}").mkdir(parents=True)
        for i, index in enumerate(np.flatnonzero(mnist_5k.labels == label)[:3]):
            Image.fromarray(mnist_5k.images[index, 0]).save(root / f"digit {label}" / f"{i}.png")
    return root
