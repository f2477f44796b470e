from __future__ import annotations

import dataclasses

import numpy as np

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.summary import summarise


def test_statistics_agree_with_floating_point_arithmetic(mnist_5k: ImageSet) -> None:
    summary = summarise(mnist_5k)
    unit = mnist_5k.images.astype(np.float64) / 255
    assert np.allclose(summary.mean, [unit.mean()])
    assert np.allclose(summary.std, [unit.std()])
    assert summary.images_per_class == (500,) * 10
    assert summary.digest == mnist_5k.digest()
    assert summary.num_duplicates == 0


def test_channels_are_measured_apart(digits: ImageSet) -> None:
    colour = np.concatenate([digits.images, 255 - digits.images, digits.images // 2], axis=1)
    summary = summarise(dataclasses.replace(digits, images=colour))
    assert summary.mean[0] + summary.mean[1] == 1
    assert summary.mean[2] < summary.mean[0]
    assert len(summary.std) == 3


def test_repeated_images_are_counted(digits: ImageSet) -> None:
    twice = digits.take([0, 1, 0, 0, 2, 1])
    assert summarise(twice).num_duplicates == 3
