"""A set of images in memory, and the two pixel scales: bytes on disk, [-1, 1] in the model."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.inventory import Inventory

__all__ = ["ImageSet", "from_unit_range", "to_unit_range"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """Square images of one size with their labels and where they came from.

    Shape:      images (N, C, H, H) uint8; labels (N,) int64 or None; N >= 1; groups (N,) int64 or
                None.
    Units:      pixels 0..255; labels index ``class_names``, which is () when unlabelled; equal
                groups are images of one person, and mean something under one key alone.
    Guarantee:  the arrays are read-only views (copy before ``torch.from_numpy``); pixels, labels
                and groups never appear in the repr.
    Raises:     ValueError for another type, rank or length, or a label without a class name.
    """

    name: str
    images: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.int64] | None = field(repr=False)
    class_names: tuple[str, ...]
    source: str  # one line: package and version, or the path
    licence: str  # one line
    inventory: Inventory | None = field(default=None, repr=False)  # of the reading it came from
    groups: npt.NDArray[np.int64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
            raise ValueError(
                f"expected images (N, C, H, H) uint8, got {images.shape} {images.dtype}"
            )
        if 0 in images.shape:
            raise ValueError(f"expected at least one image and pixel, got shape {images.shape}")
        object.__setattr__(self, "images", _read_only(images))
        if self.groups is not None:
            if self.groups.dtype != np.int64 or self.groups.shape != images.shape[:1]:
                raise ValueError(
                    f"expected groups ({len(images)},) int64, got {self.groups.shape} "
                    f"{self.groups.dtype}"
                )
            object.__setattr__(self, "groups", _read_only(self.groups))
        if labels is None:
            if self.class_names:
                raise ValueError("expected no class_names for a set without labels")
            return
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"expected labels ({len(images)},) int64, got {labels.shape} {labels.dtype}"
            )
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise ValueError(
                f"expected labels in 0..{len(self.class_names) - 1} (one class name each), "
                f"got {labels.min()}..{labels.max()}"
            )
        object.__setattr__(self, "labels", _read_only(labels))

    @property
    def num_images(self) -> int:
        """The number of images, N."""
        return int(self.images.shape[0])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[2])

    @property
    def num_classes(self) -> int:
        """The number of named classes of the set; 0 when unlabelled."""
        return len(self.class_names)

    def digest(self) -> str:
        """SHA-256 over shape, pixels and labels, in hexadecimal.

        Guarantee:  equal for two sets exactly when shape, order, pixels and labels are equal,
                    whatever their names, sources or memory layout.
        """
        state = hashlib.sha256(f"phoenix-secure/image-set/v1:{self.images.shape}:".encode())
        state.update(np.ascontiguousarray(self.images).data)
        if self.labels is None:
            state.update(b":unlabelled")
        else:
            state.update(b":labelled:")
            state.update(self.labels.astype("<i8").tobytes())
        return state.hexdigest()

    def take(self, indices: npt.ArrayLike) -> ImageSet:
        """The set of the images at ``indices``, in that order, with the same class names.

        Shape:      indices (M,) integers in 0..N-1, M >= 1 (no negative ones: in a system of
                    members and held-out records, counting from the end is always a mistake).
        Raises:     ValueError for an empty, non-integer or out-of-range index array.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or chosen.size == 0 or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"expected indices (M,) of integers, M >= 1, got {chosen.shape} {chosen.dtype}"
            )
        if chosen.min() < 0 or chosen.max() >= self.num_images:
            raise ValueError(
                f"expected indices in 0..{self.num_images - 1}, got {chosen.min()}..{chosen.max()}"
            )
        return dataclasses.replace(
            self,
            images=self.images[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
        )

    @property
    def num_groups(self) -> int | None:
        """How many people the images are of; None where the set does not say."""
        return None if self.groups is None else len(np.unique(self.groups))

    def with_inventory(self, inventory: Inventory) -> ImageSet:
        """The same set, read as ``inventory`` says."""
        return dataclasses.replace(self, inventory=inventory)


def to_unit_range(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Scale bytes to the model's range: x0 = 2 * byte / 255 - 1.

    Shape:      any, uint8 in, float32 out.
    Guarantee:  0 maps to -1 and 255 to 1 exactly; ``from_unit_range`` undoes it exactly.
    Raises:     ValueError for another dtype (already scaled images must not be scaled twice).
    Source:     Ho et al. (2020), section 3.3, arXiv:2006.11239.

    >>> to_unit_range(np.array([0, 255], dtype=np.uint8)).tolist()
    [-1.0, 1.0]
    """
    if images.dtype != np.uint8:
        raise ValueError(f"expected uint8 images, got {images.dtype}")
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def from_unit_range(images: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Scale [-1, 1] back to bytes, rounding to the nearest and clipping what lies outside.

    Shape:      any, floating in, uint8 out.
    Raises:     ValueError for non-finite values: a NaN has no nearest byte, and a sampler that
                makes one is broken.

    >>> from_unit_range(np.array([-1.2, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"expected floating images in [-1, 1], got {images.dtype}")
    if not np.isfinite(images).all():
        raise ValueError("expected finite images, got NaN or infinity")
    scaled = (images.astype(np.float64) + 1.0) * 127.5
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that cannot be written through; the caller's own array stays as it was."""
    view = array.view()
    view.flags.writeable = False
    return view
