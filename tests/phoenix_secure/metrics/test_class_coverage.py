"""Class histograms against sums made by hand, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from phoenix_secure.data.images import ImageSet
from phoenix_secure.errors import DataError
from phoenix_secure.metrics.class_coverage import class_coverage
from phoenix_secure.metrics.classifier import Classifier


def test_four_images_of_three_classes_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
    found = class_coverage(probabilities, real_labels=np.array([0, 1, 2, 2]))
    assert found.histogram == (3, 1, 0)
    assert found.entropy_bits == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)
    assert found.total_variation == pytest.approx((0.5 + 0 + 0.5) / 2)
    assert found.mean_confidence == pytest.approx((0.7 + 0.6 + 0.8 + 0.5) / 4)


def test_all_classes_alike_reach_the_largest_entropy_and_one_class_none() -> None:
    alike = class_coverage(np.eye(8), real_labels=np.arange(8))
    assert (alike.entropy_bits, alike.total_variation) == (3, 0)
    single = class_coverage(np.eye(8)[[2] * 5], real_labels=np.arange(8))
    assert (single.entropy_bits, single.total_variation) == (0, 7 / 8)


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.ones(4), 30)
    labels = rng.integers(4, size=20)
    found = class_coverage(probabilities, real_labels=labels)
    again = class_coverage(rng.permutation(probabilities), real_labels=rng.permutation(labels))
    assert found.histogram == again.histogram
    assert found.total_variation == again.total_variation
    assert found.mean_confidence == pytest.approx(again.mean_confidence)


def test_chance_alone_moves_total_variation_as_the_docstring_says() -> None:
    rng = np.random.default_rng(6)
    num, classes = 500, 10
    labels = np.repeat(np.arange(classes), 50)
    distances = [
        class_coverage(
            np.eye(classes)[rng.integers(classes, size=num)], real_labels=labels
        ).total_variation
        for _ in range(200)
    ]
    assert np.mean(distances) == pytest.approx(math.sqrt(classes / (2 * math.pi * num)), rel=0.1)


@pytest.mark.long
def test_real_digits_without_three_classes_show_the_gap(
    classifier: Classifier, digits: ImageSet, pixels: np.ndarray
) -> None:
    assert digits.labels is not None
    whole = class_coverage(classifier.probabilities(pixels[:1000]), real_labels=digits.labels)
    missing = np.flatnonzero(digits.labels[:1000] >= 3)
    part = class_coverage(classifier.probabilities(pixels[missing]), real_labels=digits.labels)
    assert whole.total_variation < 0.05
    assert part.total_variation == pytest.approx(0.3, abs=0.05)
    assert sum(part.histogram[:3]) < 0.03 * len(missing)


@pytest.mark.parametrize(
    "probabilities",
    [np.zeros((0, 3)), np.ones(3), np.full((2, 3), 0.5), np.full((2, 3), np.nan), -np.eye(2)],
)
def test_rows_that_are_no_distributions_are_refused(probabilities: np.ndarray) -> None:
    with pytest.raises(DataError, match="probabilities"):
        class_coverage(probabilities, real_labels=np.array([0]))


@pytest.mark.parametrize("labels", [[3], [-1], [0.5], [], [[0]]])
def test_labels_outside_the_classes_are_refused(labels: list[float]) -> None:
    with pytest.raises(DataError, match="labels"):
        class_coverage(np.eye(3), real_labels=np.array(labels))
