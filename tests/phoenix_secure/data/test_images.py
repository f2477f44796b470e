from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phoenix_secure.data.images import ImageSet, from_unit_range, to_unit_range


def make_set(
    images: np.ndarray, labels: np.ndarray | None = None, num_classes: int = 0
) -> ImageSet:
    return ImageSet(
        name="test",
        images=images,
        labels=labels,
        class_names=tuple(f"class {i}" for i in range(num_classes)),
        source="this test",
        licence="none",
    )


def test_every_byte_survives_the_way_to_the_model_and_back() -> None:
    every_byte = np.arange(256, dtype=np.uint8)
    scaled = to_unit_range(every_byte)
    assert scaled.dtype == np.float32
    assert scaled[0] == -1
    assert scaled[255] == 1
    assert np.abs(scaled - (2 * np.arange(256) / 255 - 1)).max() < 1e-6
    assert np.array_equal(from_unit_range(scaled), every_byte)


@given(st.floats(-3, 3, width=32))
def test_from_unit_range_picks_the_nearest_byte(value: float) -> None:
    byte = int(from_unit_range(np.array([value], dtype=np.float32))[0])
    distance = np.abs(2 * np.arange(256) / 255 - 1 - value)
    assert distance[byte] <= distance.min() + 1e-9


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_from_unit_range_refuses_values_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        from_unit_range(np.array([0.0, bad]))


def test_scaling_twice_is_refused() -> None:
    scaled = to_unit_range(np.zeros(3, dtype=np.uint8))
    with pytest.raises(ValueError, match="expected uint8"):
        to_unit_range(scaled)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="floating"):
        from_unit_range(np.zeros(3, dtype=np.uint8))  # type: ignore[arg-type]


def test_properties_of_the_bundled_sets(mnist_5k: ImageSet, digits: ImageSet) -> None:
    assert (mnist_5k.num_images, mnist_5k.channels, mnist_5k.image_size) == (5000, 1, 28)
    assert mnist_5k.num_classes == 10
    assert (digits.num_images, digits.channels, digits.image_size) == (1797, 1, 8)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 4, 4), dtype=np.float32),
        np.zeros((2, 4, 4), dtype=np.uint8),
        np.zeros((2, 1, 4, 5), dtype=np.uint8),
        np.zeros((0, 1, 4, 4), dtype=np.uint8),
        np.zeros((2, 0, 4, 4), dtype=np.uint8),
    ],
)
def test_image_set_refuses_images_of_another_form(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        make_set(images)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0]),
        np.array([0, 1], dtype=np.int32),
        np.array([0.0, 1.0]),
        np.array([0, 2]),
        np.array([-1, 0]),
    ],
)
def test_image_set_refuses_labels_that_do_not_fit(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected labels"):
        make_set(np.zeros((2, 1, 4, 4), dtype=np.uint8), labels, num_classes=2)


def test_image_set_refuses_class_names_without_labels() -> None:
    with pytest.raises(ValueError, match="class_names"):
        make_set(np.zeros((2, 1, 4, 4), dtype=np.uint8), None, num_classes=2)


def test_images_cannot_be_changed_through_the_set(digits: ImageSet) -> None:
    with pytest.raises(ValueError, match="read-only"):
        digits.images[0, 0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.name = "other"  # type: ignore[misc]


def test_repr_shows_no_pixels_or_labels(digits: ImageSet) -> None:
    assert "array" not in repr(digits)
    assert "labels" not in repr(digits)


def test_digest_does_not_depend_on_memory_layout_or_name(digits: ImageSet) -> None:
    strided = np.asfortranarray(digits.images)
    other = dataclasses.replace(digits, images=strided, name="other", source="elsewhere")
    assert other.digest() == digits.digest()


@given(
    hnp.arrays(np.uint8, (3, 1, 2, 2)),
    st.integers(0, 11),
    st.integers(1, 255),
)
def test_digest_sees_every_pixel(images: np.ndarray, position: int, change: int) -> None:
    changed = images.copy()
    changed.flat[position] ^= change
    assert make_set(changed).digest() != make_set(images).digest()


def test_digest_sees_shape_order_and_labels(digits: ImageSet) -> None:
    assert digits.labels is not None
    seen = {
        digits.digest(),
        digits.take(np.arange(digits.num_images)[::-1]).digest(),
        dataclasses.replace(digits, labels=(digits.labels + 1) % 10).digest(),
        dataclasses.replace(digits, labels=None, class_names=()).digest(),
        dataclasses.replace(digits, images=digits.images.reshape(-1, 4, 4, 4)).digest(),
    }
    assert len(seen) == 5


def test_take_keeps_order_and_class_names(digits: ImageSet) -> None:
    chosen = digits.take([5, 3])
    assert np.array_equal(chosen.images, digits.images[[5, 3]])
    assert digits.labels is not None
    assert np.array_equal(chosen.labels, digits.labels[[5, 3]])
    assert chosen.class_names == digits.class_names


@pytest.mark.parametrize("indices", [[], [-1], [1797], [0.5], [[0]], [True]])
def test_take_refuses_indices_outside_the_set(digits: ImageSet, indices: list[object]) -> None:
    with pytest.raises(ValueError, match="expected indices"):
        digits.take(indices)
