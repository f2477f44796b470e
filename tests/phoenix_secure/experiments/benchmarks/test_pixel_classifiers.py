"""LogReg and MLP on real digits: they read them, repeat to the bit, and learn from labels alone."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.errors import DataError
from phoenix_secure.experiments.benchmarks.pixel_classifiers import (
    PixelAccuracies,
    pixel_accuracies,
)


def accuracies(*, labels: np.ndarray | None = None, seed: int = 0) -> PixelAccuracies:
    digits = load_digits()
    assert digits.labels is not None
    images = to_unit_range(digits.images)
    order = np.random.default_rng(1).permutation(len(images))
    seen, test = order[:600], order[600:]
    return pixel_accuracies(
        images[seen],
        labels=digits.labels[seen] if labels is None else labels,
        test=images[test],
        test_labels=digits.labels[test],
        rng=np.random.default_rng(seed),
    )


def test_both_read_real_digits_and_repeat() -> None:
    found = accuracies()

    assert found.logreg > 0.9
    assert found.mlp > 0.9
    assert accuracies() == found
    assert accuracies(seed=1).mlp != found.mlp
    assert accuracies(seed=1).logreg == found.logreg  # nothing in it is random


def test_wrong_labels_teach_nothing() -> None:
    """Figures near chance: the test images' own labels are no part of the training."""
    found = accuracies(labels=np.random.default_rng(2).integers(0, 10, 600))

    assert found.logreg < 0.3
    assert found.mlp < 0.3


def test_images_of_another_range_are_refused() -> None:
    with pytest.raises(DataError, match="training images"):
        pixel_accuracies(
            np.full((20, 1, 8, 8), 255.0, np.float32),
            labels=np.arange(20) % 2,
            test=np.zeros((2, 1, 8, 8), np.float32),
            test_labels=np.arange(2),
            rng=np.random.default_rng(0),
        )
