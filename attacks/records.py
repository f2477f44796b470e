"""Checks on what an attack is given: a wrong input ends in one clear line, never in a number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Embedding",
    "Images",
    "Membership",
    "Progress",
    "Scores",
    "check_disjoint",
    "check_images",
    "check_membership",
    "check_scores",
    "embedded",
    "no_progress",
]

Images = NDArray[np.float32]
"""(N, C, H, W), values in [-1, 1]."""
Scores = NDArray[np.float64]
"""(N,), larger = member."""
Membership = NDArray[np.bool_]
"""(N,), True = member."""
Embedding = Callable[[Images], NDArray[np.floating]]
"""Maps (N, C, H, W) images to (N, D) vectors between which distances mean something."""
Progress = Callable[[int, int], object]
"""Called with (records done, records in all)."""

_RANGE_SLACK = 1e-3  # bicubic resizing and float16 storage step over the edge by about this much


def no_progress(done: int, total: int) -> None:
    """The default ``progress``: tells nobody."""


def check_images(x: ArrayLike, *, name: str, like: Images | None = None) -> Images:
    """``x`` as contiguous float32 images.

    Shape:      (N, C, H, W), N >= 1; C, H, W those of ``like`` where it is given.
    Raises:     ValueError that names ``name`` for another rank, no records, NaN or infinity, values
                outside [-1, 1], or images of another shape than ``like``.
    """
    images = np.asarray(x)
    if images.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected real numbers, got dtype {images.dtype}")
    if images.ndim != 4:
        raise ValueError(f"{name}: expected shape (N, C, H, W), got {images.shape}")
    if images.size == 0:
        raise ValueError(f"{name}: expected at least one image, got shape {images.shape}")
    if like is not None and images.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"{name}: images have shape {images.shape[1:]}, the others {like.shape[1:]}; "
            "resize them first"
        )
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{name}: contains NaN or infinity")
    if low < -1 - _RANGE_SLACK or high > 1 + _RANGE_SLACK:
        raise ValueError(
            f"{name}: values lie in [{low:g}, {high:g}], expected [-1, 1]; "
            "scale bytes with x / 127.5 - 1"
        )
    return np.ascontiguousarray(images, dtype=np.float32)


def check_disjoint(first: Images, second: Images, *, names: tuple[str, str]) -> None:
    """Refuse sets that share a record: an overlap makes every figure computed from them wrong.

    Two records are the same when all their float32 values are; -0.0 counts as 0.0.
    Raises:     ValueError that gives the number of shared records.
    """
    shared = len(_fingerprints(first) & _fingerprints(second))
    if shared:
        raise ValueError(
            f"{names[0]} and {names[1]} share {shared} record(s); remove them from one of the two"
        )


def check_scores(scores: ArrayLike, *, name: str = "scores") -> Scores:
    """``scores`` as a finite (N,) float64 array.

    Raises:     ValueError for another rank, no values, or NaN and infinity (a NaN sorts last and
                would pass for the most certain member).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name}: expected shape (N,) with N >= 1, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: {int((~np.isfinite(values)).sum())} value(s) are NaN or infinite"
        )
    return values


def check_membership(membership: ArrayLike, *, num_records: int) -> Membership:
    """``membership`` as (N,) booleans with at least one member and one non-member."""
    flags = np.asarray(membership)
    if flags.shape != (num_records,):
        raise ValueError(f"membership: expected shape ({num_records},), got {flags.shape}")
    if flags.dtype != np.bool_:
        raise ValueError(f"membership: expected booleans, got dtype {flags.dtype}")
    if flags.all() or not flags.any():
        missing = "non-member" if flags.all() else "member"
        raise ValueError(f"membership: there is no {missing} to compare with")
    return flags


def embedded(x: Images, *, embed: Embedding | None, name: str) -> NDArray[np.floating]:
    """``x`` as (N, D) vectors: its pixels, or what ``embed`` makes of them, checked."""
    if embed is None:
        return x.reshape(len(x), -1)
    vectors = np.asarray(embed(x))
    if vectors.ndim != 2 or len(vectors) != len(x) or vectors.shape[1] == 0:
        raise ValueError(f"{name}: embed returned shape {vectors.shape} for {len(x)} images")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{name}: embed returned NaN or infinity")
    return vectors


def _fingerprints(x: Images) -> set[bytes]:
    # Digests, not rows: the sets together would otherwise hold a second copy of every image.
    return {hashlib.blake2b((row + np.float32(0)).tobytes(), digest_size=16).digest() for row in x}
