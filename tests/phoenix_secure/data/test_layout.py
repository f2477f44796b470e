"""Axes of arrays: read where there is one reading, refused with both where there are two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.layout import channels_first
from phoenix_secure.errors import DataError


@pytest.mark.parametrize("channels", [3, 4])
def test_one_picture_or_several_grey_ones_is_for_the_user_to_say(channels: int) -> None:
    images = np.zeros((channels, 8, 8))
    readings = rf"{channels} grey images.*or one image.*\({channels}, 1, 8, 8\) or \(1, {channels}"
    with pytest.raises(DataError, match=readings):
        channels_first(images, num_labels=None, name="d")
    with pytest.raises(DataError, match="either"):
        channels_first(images, num_labels=1, name="d")
    assert channels_first(images, num_labels=channels, name="d").shape == (channels, 1, 8, 8)


def test_either_form_that_the_message_names_is_read() -> None:
    for shape in ((3, 1, 8, 8), (1, 3, 8, 8), (1, 8, 8, 3)):
        found = channels_first(np.zeros(shape), num_labels=None, name="d")
        assert found.shape == ((3, 1, 8, 8) if shape[0] == 3 else (1, 3, 8, 8))


def test_a_picture_with_channels_last_says_how() -> None:
    with pytest.raises(DataError, match=r"one image \(H, H, C\): save \(1, 8, 8, 3\)"):
        channels_first(np.zeros((8, 8, 3)), num_labels=None, name="d")


@given(st.integers(1, 9), st.integers(4, 9), st.sampled_from([1, 3]))
def test_every_picture_keeps_its_pixels(num: int, size: int, channels: int) -> None:
    images = np.arange(num * channels * size * size).reshape(num, channels, size, size)
    last = images.transpose(0, 2, 3, 1)
    for layout in (images, last):
        assert np.array_equal(channels_first(layout, num_labels=None, name="d"), images)
