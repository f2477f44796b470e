"""Real digits and a classifier of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from built_once import built_once
from phoenix_secure.data.bundled import load_mnist_5k
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.metrics.classifier import Classifier, load_classifier, train_classifier

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
def classifier(
    tmp_path_factory: pytest.TempPathFactory, digits: ImageSet, pixels: npt.NDArray[np.float32]
) -> Classifier:
    """Trained on the last 2000 digits; the first 2000 are new to it."""
    labels = digits.labels
    assert labels is not None

    def build(folder: Path) -> None:
        train_classifier(
            pixels[3000:],
            labels=labels[3000:],
            num_classes=10,
            dataset="mnist-5k",
            generator=torch.Generator().manual_seed(3),
            device=CPU,
            epochs=4,
        ).save(folder / "cnn.safetensors")

    return load_classifier(
        built_once(tmp_path_factory, "classifier", build) / "cnn.safetensors", device=CPU
    )
