"""Finds a site's data sets that share images, by keyed record hashes that stay at the site.

One file for each data set, named by its digest (``record_hashes.data_digest``): the comparison tag,
then the first half of each image's hash. Without a file, or with images of another form, two data
sets count as the same: composing too much is safe, and taking a subset for new data is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from phoenix_secure.files import write_bytes
from phoenix_secure.privacy.record_hashes import comparison_tag, record_hashes

__all__ = ["keep_records", "overlapping"]

_TAG_SIZE = 32
# 128 bits of a keyed hash: a collision joins two data sets and hides none.
_HASH_SIZE = 16


def keep_records(folder: Path, *, digest: str, images: np.ndarray, key: bytes) -> None:
    """Write down the records of the data set ``digest``, unless they are there.

    Raises:     StorageError.
    """
    path = _file(folder, digest)
    if path.exists():
        return
    hashes = sorted({bytes.fromhex(each)[:_HASH_SIZE] for each in record_hashes(images, key=key)})
    tag = bytes.fromhex(comparison_tag(images, key=key))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(path, tag + b"".join(hashes))


def overlapping(digests: Iterable[str], *, folder: Path) -> list[frozenset[str]]:
    """``digests`` in groups: data sets of different groups are known to share no image."""
    groups: list[tuple[set[str], _Records | None]] = []
    for digest in sorted(set(digests)):
        own, names = _read(folder, digest), {digest}
        rest = []
        for members, records in groups:
            if own is None or records is None or own.may_share(records):
                names |= members
                own = None if own is None or records is None else own.joined(records)
            else:
                rest.append((members, records))
        groups = [*rest, (names, own)]
    return sorted((frozenset(members) for members, _ in groups), key=sorted)


class _Records:
    """Tag and hashes of one data set, or of several that share images."""

    def __init__(self, tags: frozenset[bytes], hashes: frozenset[bytes]) -> None:
        self.tags, self.hashes = tags, hashes

    def may_share(self, other: _Records) -> bool:
        return self.tags != other.tags or not self.hashes.isdisjoint(other.hashes)

    def joined(self, other: _Records) -> _Records:
        return _Records(self.tags | other.tags, self.hashes | other.hashes)


def _read(folder: Path, digest: str) -> _Records | None:
    try:
        content = _file(folder, digest).read_bytes()
    except (OSError, ValueError):
        return None
    if len(content) <= _TAG_SIZE or (len(content) - _TAG_SIZE) % _HASH_SIZE:
        return None
    parts = range(_TAG_SIZE, len(content), _HASH_SIZE)
    hashes = frozenset(content[start : start + _HASH_SIZE] for start in parts)
    return _Records(frozenset({content[:_TAG_SIZE]}), hashes)


def _file(folder: Path, digest: str) -> Path:
    if re.fullmatch("[0-9a-f]{64}", digest) is None:
        raise ValueError("expected a data set's digest")
    return folder / f"{digest}.records"
