"""Real digits and a classifier of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from phoenix_secure.data.bundled import load_mnist_5k
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.metrics.classifier import Classifier, train_classifier

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """MNIST-5k in a fixed random order (the file is sorted by class)."""
    images = load_mnist_5k()
    return images.take(np.random.default_rng(0).permutation(images.num_images))


@pytest.fixture(scope="session")
def pixels(digits: ImageSet) -> npt.NDArray[np.float32]:
    """The digits in [-1, 1]."""
    return to_unit_range(digits.images)


@pytest.fixture(scope="session")
def classifier(digits: ImageSet, pixels: npt.NDArray[np.float32]) -> Classifier:
    """Trained on the last 3000 digits; the first 2000 are new to it."""
    assert digits.labels is not None
    return train_classifier(
        pixels[2000:],
        labels=digits.labels[2000:],
        num_classes=10,
        dataset="mnist-5k",
        generator=torch.Generator().manual_seed(3),
        device=CPU,
        epochs=4,
    )
