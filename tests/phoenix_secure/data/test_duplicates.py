"""Equal and nearly equal images, against comparing all pairs one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.data.duplicates import difference_hashes, find_duplicates
from phoenix_secure.data.images import ImageSet


def slow_hash(image: np.ndarray) -> int:
    """Pillow's box filter and a loop, most significant bit first."""
    grey = Image.fromarray(image[0].astype(np.float32), "F")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    bits = "".join(
        "1" if small[y, x + 1] > small[y, x] else "0" for y in range(8) for x in range(8)
    )
    return int(bits, 2)


def test_hashes_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 1, 32, 36)).astype(np.uint8)
    found, small = difference_hashes(images)
    assert found.tolist() == [slow_hash(image) for image in images]
    assert small[:, 0] == pytest.approx(images[:, 0, :4, :4].mean((1, 2)))


def slow_counts(image_set: ImageSet) -> tuple[int, int, int]:
    images, groups = image_set.images, image_set.groups
    hashes, small = difference_hashes(images)
    exact, near, across = set(), set(), set()
    for i in range(len(images)):
        for j in range(len(images)):
            if i == j:
                continue
            equal = np.array_equal(images[i], images[j])
            bits = (int(hashes[i]) ^ int(hashes[j])).bit_count()
            alike = not equal and bits <= 2 and np.abs(small[i] - small[j]).mean() <= 6
            exact |= {i} if equal and j < i else set()
            near |= {i} if alike else set()
            across |= {i} if (equal or alike) and groups[i] != groups[j] else set()
    return len(exact), len(near), len(across)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_counts_are_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (6, 1, 9, 9))
    copies = base[rng.integers(0, 6, 40)] + rng.integers(0, 3, (40, 1, 1, 9)) * rng.integers(0, 2)
    image_set = ImageSet(
        name="npz", images=np.clip(copies, 0, 255).astype(np.uint8), labels=None, class_names=(),
        source="test", licence="test", groups=rng.integers(0, 9, 40),
    )  # fmt: skip
    found = find_duplicates(image_set)
    assert (found.exact, found.near, found.across_groups) == slow_counts(image_set)
    assert find_duplicates(dataclasses.replace(image_set, groups=None)).across_groups is None


def test_a_picture_compressed_again_is_near_and_another_is_not(mnist_5k: ImageSet) -> None:
    """28 x 28 digits, blown up: brightened, scaled down and up, or another digit."""
    large = mnist_5k.images[:30].repeat(4, 2).repeat(4, 3)
    again = [
        np.asarray(Image.fromarray(image[0]).resize((56, 56)).resize((112, 112)))[None]
        for image in large[:10]
    ]
    images = np.concatenate([large, np.stack(again)])
    whole = dataclasses.replace(
        mnist_5k.take(np.arange(40)), images=images, groups=np.arange(40, dtype=np.int64)
    )
    found = find_duplicates(whole)
    assert (found.exact, found.near, found.across_groups) == (0, 20, 20)
