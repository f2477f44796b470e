"""Data sets that share images are one; whatever cannot be compared is one too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.privacy.data_sets import keep_records, overlapping
from phoenix_secure.privacy.record_hashes import data_digest

KEY = bytes(range(32))


def images(seed: int, num: int = 6, size: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 1, size, size), dtype=np.uint8)


def keep(folder: Path, array: np.ndarray) -> str:
    digest = data_digest(array, None, key=KEY)
    keep_records(folder, digest=digest, images=array, key=KEY)
    return digest


def test_a_subset_is_the_same_data_and_other_images_are_not(tmp_path: Path) -> None:
    whole, part, other = (
        keep(tmp_path, each) for each in (images(0), images(0)[2:4][::-1], images(1))
    )
    groups = overlapping([whole, part, other], folder=tmp_path)
    assert sorted(map(sorted, groups)) == sorted([sorted([whole, part]), [other]])


def test_sharing_one_image_joins_whole_chains(tmp_path: Path) -> None:
    first, last = images(0), images(1)
    bridge = np.concatenate([first[:1], last[:1]])
    digests = [keep(tmp_path, each) for each in (first, last)]
    assert len(overlapping(digests, folder=tmp_path)) == 2
    digests.append(keep(tmp_path, bridge))
    assert overlapping(digests, folder=tmp_path) == [frozenset(digests)]


@pytest.mark.parametrize("how", ["no file", "truncated", "another form", "no digest"])
def test_what_cannot_be_compared_counts_as_the_same(tmp_path: Path, how: str) -> None:
    first = keep(tmp_path, images(0))
    second = keep(tmp_path, images(1, size=4 if how == "another form" else 3))
    path = tmp_path / f"{second}.records"
    if how == "no file":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "no digest":
        second = "data"
    assert overlapping([first, second], folder=tmp_path) == [frozenset({first, second})]


def test_the_file_tells_nothing_without_the_key(tmp_path: Path) -> None:
    array = images(0)
    digest = keep(tmp_path, array)
    content = (tmp_path / f"{digest}.records").read_bytes()
    assert len(content) == 32 + 16 * len(array)
    other = tmp_path / "other"
    keep_records(other, digest=digest, images=array, key=bytes(32))
    hashes = {content[start : start + 16] for start in range(32, len(content), 16)}
    again = (other / f"{digest}.records").read_bytes()
    assert hashes.isdisjoint(again[start : start + 16] for start in range(32, len(again), 16))
