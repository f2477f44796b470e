"""Bring decoded pictures to one form: 8-bit grey or RGB, square, antialiased when resized."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from phoenix_secure.data.images import ImageSet
from phoenix_secure.errors import ConfigError, DataError

__all__ = ["check_form", "conform_picture", "conform_set"]

_MODES = {1: "L", 3: "RGB"}
_MIN_SIZE, _MAX_SIZE = 4, 1024
# Modes whose conversion to 8 bits Pillow would do by clipping, without a word.
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def check_form(*, image_size: int | None, channels: int | None, max_images: int | None) -> None:
    """Refuse settings that no loader can meet.

    Raises:     ConfigError that names the setting.
    """
    if image_size is not None and not _MIN_SIZE <= image_size <= _MAX_SIZE:
        raise ConfigError(f"image_size must be in {_MIN_SIZE}..{_MAX_SIZE}, got {image_size}")
    if channels is not None and channels not in _MODES:
        raise ConfigError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
    if max_images is not None and max_images < 1:
        raise ConfigError(f"max_images must be at least 1, got {max_images}")


def conform_picture(
    picture: Image.Image, *, image_size: int | None, channels: int | None, name: str
) -> npt.NDArray[np.uint8]:
    """One decoded picture as (C, H, W) uint8.

    Guarantee:  turned upright by its EXIF orientation; transparency flattened onto white; a
                rectangle is centre-cropped to a square, never stretched, when image_size is given;
                resizing is bicubic and antialiased. Without image_size the native size stays.
    Raises:     DataError for more than 8 bits per channel: choosing how to map 12- or 16-bit
                values (a window, in radiology) is a decision about the data, not ours.
    """
    if picture.mode in _DEEP_MODES:
        raise DataError(
            f"{name} has more than 8 bits per pixel (mode {picture.mode}): "
            "convert it to 8-bit grey or RGB first"
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "LAB":
        picture = picture.convert("RGB")  # the one way that Pillow knows
    if picture.has_transparency_data:
        opaque = Image.new("RGBA", picture.size, "white")
        opaque.alpha_composite(picture.convert("RGBA"))
        is_grey = picture.mode in ("L", "LA", "1")
        picture = opaque.convert("L" if is_grey else "RGB")
    if channels is None:
        channels = 1 if picture.mode in ("L", "1") else 3
    picture = picture.convert(_MODES[channels])
    if image_size is not None and picture.size != (image_size, image_size):
        picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def conform_set(image_set: ImageSet, *, image_size: int | None, channels: int | None) -> ImageSet:
    """The whole set at another size or number of channels; itself when nothing changes."""
    same_size = image_size in (None, image_set.image_size)
    same_channels = channels in (None, image_set.channels)
    if same_size and same_channels:
        return image_set
    images = [
        conform_picture(
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)),
            image_size=image_size,
            channels=channels,
            name=image_set.name,
        )
        for image in image_set.images
    ]
    return dataclasses.replace(image_set, images=np.stack(images))
