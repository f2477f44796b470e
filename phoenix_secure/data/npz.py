"""Images from the user's own .npz file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.errors import DataError, NoImages

__all__ = ["load_npz"]

_log = logging.getLogger(__name__)


def load_npz(
    path: Path, *, max_images: int | None, test: bool = False, each_alone: bool = False
) -> ImageSet:
    """The arrays ``images`` and, if present, ``labels`` and ``class_names`` of an .npz file.

    The names ``train_images``/``train_labels`` and ``test_images``/``test_labels`` (MedMNIST's
    layout) are recognised as well; ``test`` asks for the latter.

    Shape:      images (N, H, H), (N, H, H, C) or (N, C, H, H) with C in {1, 3}; labels (N,) or
                (N, 1) integers.
    Units:      integers 0..255, or floats in [0, 1] or [-1, 1]: the second when any value is
                negative. Which one was assumed stands in ``source``.
    Guarantee:  no pickle is ever read. With ``each_alone`` the pixels must be uint8, since no scale
                is read off the images, labels count only beside ``class_names``, and an image
                whose label has no name is left out.
    Raises:     DataError that names the file and the array, and says what to do; NoImages.
    """
    arrays = read_arrays(path, advice="write one with np.savez(path, images=..., labels=...)")
    prefix = "test_" if test else ("train_" if "train_images" in arrays else "")
    if f"{prefix}images" not in arrays:
        raise DataError(
            f"{path} has no array {prefix}images, only {', '.join(sorted(arrays)) or 'nothing'}: "
            f"save one with np.savez(path, {prefix}images=..., {prefix}labels=...)"
        )
    raw = arrays[f"{prefix}images"]
    if each_alone and raw.ndim in (3, 4) and len(raw) == 0:
        raise NoImages(f"{path} holds no image")
    raw = _channels_first(raw, path=path)
    labels = arrays.get(f"{prefix}labels")
    class_names: tuple[str, ...] = ()
    if each_alone:
        raw, labels, class_names = _named(raw, labels, arrays.get("class_names"), path=path)
    elif labels is not None:
        labels = _checked_labels(labels, num_images=len(raw), path=path)
        class_names = _class_names(arrays.get("class_names"), labels, path=path)
    if each_alone:
        pixels, scale = _as_bytes(raw, path=path), "bytes"
    else:
        pixels, scale = _to_bytes(raw, path=path)
    chosen = balanced_indices(labels, num_images=len(raw), max_images=max_images)
    facts = facts_of("npz")
    return ImageSet(
        name=facts.name,
        images=pixels[chosen],
        labels=None if labels is None else labels[chosen],
        class_names=class_names,
        source=f"{path}, pixels read as {scale}",
        licence=facts.licence,
    )


def _channels_first(images: npt.NDArray[Any], *, path: Path) -> npt.NDArray[Any]:
    if images.ndim == 3:
        images = images[:, np.newaxis]
    shape = images.shape
    if images.ndim != 4 or 0 in shape:
        raise DataError(
            f"{path}: images have shape {shape}, expected (N, H, H), (N, H, H, C) or (N, C, H, H)"
        )
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if last and not first:
        images = images.transpose(0, 3, 1, 2)
    elif first == last:
        raise DataError(f"{path}: cannot tell the channel axis of shape {shape}: it must be 1 or 3")
    if images.shape[2] != images.shape[3]:
        raise DataError(f"{path}: images of shape {shape} are not square: crop or pad them first")
    return images


def _to_bytes(images: npt.NDArray[Any], *, path: Path) -> tuple[npt.NDArray[np.uint8], str]:
    """The pixels as bytes, and the scale they were read in."""
    if np.issubdtype(images.dtype, np.integer):
        low, high = int(images.min()), int(images.max())
        if low < 0 or high > 255:
            raise DataError(
                f"{path}: integer pixels in {low}..{high}, expected 0..255: rescale them to 8 bits"
            )
        if high <= 1:
            raise DataError(
                f"{path}: integer pixels in {low}..{high} would be black images on the scale "
                "0..255: multiply them by 255"
            )
        return images.astype(np.uint8), f"integers in 0..255 (found {low}..{high})"
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{path}: images are {images.dtype}, expected uint8 or floats")
    bad = ~np.isfinite(images).all(axis=(1, 2, 3))
    if bad.any():
        raise DataError(
            f"{path}: {int(bad.sum())} image(s) hold NaN or infinity, "
            f"the first is image {int(bad.argmax())}: repair or remove them"
        )
    minimum, maximum = float(images.min()), float(images.max())
    if minimum < -1 or maximum > 1:
        raise DataError(
            f"{path}: float pixels in {minimum:g}..{maximum:g}, expected [0, 1] or [-1, 1]: "
            "rescale them, or save 0..255 as uint8"
        )
    if minimum < 0:
        scaled, scale = (images.astype(np.float64) + 1) * 127.5, "floats in [-1, 1]"
    else:
        scaled, scale = images.astype(np.float64) * 255, "floats in [0, 1]"
    return np.rint(scaled).astype(np.uint8), f"{scale} (found {minimum:g}..{maximum:g})"


def _as_bytes(images: npt.NDArray[Any], *, path: Path) -> npt.NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: images are {images.dtype}, and with data.split keyed they must be uint8: the "
            "scale would follow from the images; save 0..255 as uint8"
        )
    return images


def _named(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None,
    names: npt.NDArray[Any] | None,
    *,
    path: Path,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """The images whose label has a name; all of them, unlabelled, where the file names no class."""
    if labels is None or names is None:
        return images, None, ()
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: expected one integer label for each of {len(images)} images")
    class_names = _class_names(names, np.zeros(1, np.int64), path=path)
    has_name = (labels >= 0) & (labels < len(class_names))
    for index in np.flatnonzero(~has_name):
        _log.warning("left out: image %d of %s has a label without a name", index, path)
    if not has_name.any():
        raise NoImages(f"{path}: no image has a label with a name: fix class_names")
    return images[has_name], labels[has_name].astype(np.int64), class_names


def _checked_labels(
    labels: npt.NDArray[Any], *, num_images: int, path: Path
) -> npt.NDArray[np.int64]:
    if labels.shape == (num_images, 1):
        labels = labels[:, 0]
    if labels.shape != (num_images,):
        raise DataError(
            f"{path}: labels have shape {labels.shape}, expected one for each of "
            f"{num_images} images"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: labels are {labels.dtype}, expected integers 0, 1, 2, ...")
    if labels.min() < 0 or labels.max() >= 2**16:
        raise DataError(
            f"{path}: labels in {labels.min()}..{labels.max()}, expected 0..K-1 for K classes"
        )
    return labels.astype(np.int64)


def _class_names(
    names: npt.NDArray[Any] | None, labels: npt.NDArray[np.int64], *, path: Path
) -> tuple[str, ...]:
    num_classes = int(labels.max()) + 1
    if names is None:
        return tuple(str(label) for label in range(num_classes))
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < num_classes:
        raise DataError(
            f"{path}: class_names must be {num_classes} strings or more, one for each label"
        )
    return tuple(names.tolist())
