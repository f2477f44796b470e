"""Keyed hashes of images: to see that a data set is the same, or that two sites share a person.

A plain hash of a small image can be found by trying images; with a key that stays among those who
compare, it cannot.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import storage_errors
from phoenix_secure.secret_files import write_secret

__all__ = [
    "comparison_tag",
    "data_digest",
    "open_key",
    "person_hashes",
    "person_key",
    "person_tag",
    "record_hashes",
    "shared_records",
]

_KEY_SIZE = 32


def record_hashes(images: np.ndarray, *, key: bytes) -> list[str]:
    """HMAC-SHA256 of each image (n, C, H, W) uint8, in hexadecimal.

    Equal images have equal hashes, whatever their labels; a crop or another compression has not.
    """
    _check(images, key)
    form = repr(images.shape[1:]).encode()
    return [
        hmac.new(key, b"record:" + form + image.tobytes(), hashlib.sha256).hexdigest()
        for image in images
    ]


def comparison_tag(images: np.ndarray, *, key: bytes) -> str:
    """Equal where key and form of the images are: only such hashes can be compared."""
    _check(images, key)
    form = b"comparison:" + repr(images.shape[1:]).encode()
    return hmac.new(key, form, hashlib.sha256).hexdigest()


def person_key(key: bytes) -> bytes:
    """The 32 bytes under which owners who share ``key`` turn identifiers into numbers
    (``data.groups.group_number``), so that equal identifiers have equal ones at all of them."""
    return _mac(key, b"persons: numbers of identifiers")


def person_hashes(groups: np.ndarray, *, key: bytes) -> list[str]:
    """HMAC-SHA256 of each person among ``groups`` (n,) int64, in hexadecimal, sorted.

    ``groups`` are numbers under ``person_key(key)``. Identifiers are few: whoever has the key finds
    each by trying all that there may be.
    """
    people = np.unique(groups).astype("<i8")
    return sorted(_mac(key, b"person:" + number.tobytes()).hex() for number in people)


def person_tag(*, key: bytes) -> str:
    """As ``comparison_tag``, for hashes of persons."""
    # Before, two spellings of one person had two numbers: such hashes compare with none of these.
    return _mac(key, b"comparison of persons, in any spelling").hex()


def data_digest(
    images: np.ndarray, labels: np.ndarray | None, *, key: bytes, groups: np.ndarray | None = None
) -> str:
    """HMAC-SHA256 over a whole data set, its order and labels included; and whose each image is
    (``groups`` (n,) int64), where persons are what is protected."""
    _check(images, key)
    mac = hmac.new(key, b"data:" + repr(images.shape).encode(), hashlib.sha256)
    mac.update(np.ascontiguousarray(images).data)
    if labels is not None:
        mac.update(b"labels:" + np.ascontiguousarray(labels, dtype="<i8").tobytes())
    if groups is not None:
        mac.update(b"groups:" + np.ascontiguousarray(groups, dtype="<i8").tobytes())
    return mac.hexdigest()


def shared_records(hashes: Iterable[Iterable[str]]) -> int:
    """Number of records at more than one site, from each site's hashes under one common key.

    Parallel composition (epsilon of the federation = the largest of any site) assumes none.
    """
    at_sites = Counter(each for site in hashes for each in set(site))
    return sum(count > 1 for count in at_sites.values())


def open_key(path: Path) -> bytes:
    """The secret key in ``path``, made from the operating system's randomness at first use.

    Raises:     CheckpointError when the file holds something else; StorageError.
    """
    if not path.exists():
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, os.urandom(_KEY_SIZE))
    key = path.read_bytes()
    if len(key) != _KEY_SIZE:
        raise CheckpointError(f"{path} must hold {_KEY_SIZE} bytes: restore it")
    return key


def _mac(key: bytes, content: bytes) -> bytes:
    if len(key) != _KEY_SIZE:
        raise ValueError(f"expected a key of {_KEY_SIZE} bytes")
    return hmac.digest(key, content, hashlib.sha256)


def _check(images: np.ndarray, key: bytes) -> None:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"expected (n, C, H, W) uint8 images, got {images.shape} {images.dtype}")
    if len(key) != _KEY_SIZE:
        raise ValueError(f"expected a key of {_KEY_SIZE} bytes")
