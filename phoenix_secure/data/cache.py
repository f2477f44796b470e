"""The cache of fetched sets: one .npz per set, written atomically, never holding pickles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.catalogue import DatasetFacts, PublishedPart, facts_of
from phoenix_secure.errors import DataError
from phoenix_secure.files import default_cache_dir, replace_file

__all__ = [
    "PublishedArrays",
    "cached_path",
    "content_digest",
    "default_cache_dir",
    "read_cached",
    "write_cached",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedArrays:
    """One part of a published set.

    Shape:      images (N, C, H, H) uint8, labels (N,) int64.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def cached_path(name: str, *, cache_dir: Path) -> Path:
    """The path at which ``fetch`` stores the set ``name``."""
    return cache_dir / f"{name}.npz"


def content_digest(part: PublishedArrays) -> str:
    """SHA-256 over the sorted SHA-256 of every (image, label), in hexadecimal.

    Guarantee:  equal for two copies exactly when they hold the same labelled images, in any
                order: packages of one set need not agree on the order.
    """
    leaves = sorted(
        hashlib.sha256(np.ascontiguousarray(image).tobytes() + bytes([label])).digest()
        for image, label in zip(part.images, part.labels.tolist(), strict=True)
    )
    return hashlib.sha256(b"".join(leaves)).hexdigest()


def write_cached(path: Path, *, train: PublishedArrays, test: PublishedArrays, source: str) -> None:
    """Store both parts of a set, and one line on where they came from, in one step."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                train_images=train.images,
                train_labels=train.labels.astype(np.uint8),
                test_images=test.images,
                test_labels=test.labels.astype(np.uint8),
                source=np.array(source),
            )

    replace_file(path, write)


def read_cached(name: str, *, cache_dir: Path, test: bool) -> tuple[PublishedArrays, str]:
    """The training or test part of a fetched set, and its one line of provenance.

    Guarantee:  sizes and labels are what the catalogue says; the archive's checksums hold.
    Raises:     DataError with the command that fetches a set that is missing or damaged.
    """
    facts = facts_of(name)
    path = cached_path(name, cache_dir=cache_dir)
    command = f"phoenix-secure data fetch {name}"
    if not path.is_file():
        raise DataError(f"{name} is not in {cache_dir}: fetch it once with `{command}`")
    part = "test" if test else "train"
    keys = (f"{part}_images", f"{part}_labels", "source")
    arrays = read_arrays(path, advice=f"delete it and run `{command}`", only=keys)
    if len(arrays) != len(keys):
        raise DataError(f"{path} does not hold {name}: delete it and run `{command}`")
    images, labels, source = (arrays[key] for key in keys)
    _check_shape(images, labels, facts=facts, test=test, path=path, command=command)
    return PublishedArrays(images=images, labels=labels.astype(np.int64)), str(source)


def _check_shape(
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    facts: DatasetFacts,
    test: bool,
    path: Path,
    command: str,
) -> None:
    published: PublishedPart | None = facts.test if test else facts.train
    if published is None:
        raise ValueError(f"expected a set that is fetched, got {facts.name}")
    shape = (published.num_images, facts.channels, facts.image_size, facts.image_size)
    if (
        images.shape != shape
        or images.dtype != np.uint8
        or labels.shape != shape[:1]
        or labels.dtype != np.uint8
        or labels.max() >= len(facts.class_names)
    ):
        raise DataError(f"{path} does not hold {facts.name}: delete it and run `{command}`")
