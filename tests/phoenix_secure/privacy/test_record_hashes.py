"""Keyed hashes: equal for equal images, useless without the key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import CheckpointError
from phoenix_secure.privacy.record_hashes import (
    comparison_tag,
    data_digest,
    open_key,
    person_hashes,
    person_key,
    person_tag,
    record_hashes,
    shared_records,
)

KEY, OTHER = bytes(32), bytes(range(32))


def images(seed: int, num: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 1, 3, 3), dtype=np.uint8)


def test_records_at_two_sites_are_counted_once_each() -> None:
    first, second = images(0), images(1)
    second[2] = first[1]
    sites = [record_hashes(part, key=KEY) for part in (first, second, images(2))]
    assert shared_records(sites) == 1
    assert shared_records([sites[0] * 2, sites[2]]) == 0  # twice at one site is no overlap
    mixed = [record_hashes(first, key=KEY), record_hashes(second, key=OTHER)]
    assert shared_records(mixed) == 0


def test_hashes_are_of_bytes_and_form_and_key() -> None:
    one = images(0, num=1)
    assert record_hashes(one, key=KEY) == record_hashes(one.copy(order="F"), key=KEY)
    assert record_hashes(one, key=KEY) != record_hashes(one, key=OTHER)
    flat = one.reshape(1, 1, 1, 9)
    assert record_hashes(one, key=KEY) != record_hashes(flat, key=KEY)


def test_digest_sees_images_labels_and_order() -> None:
    some, labels = images(0), np.arange(4)
    seen = {
        data_digest(some, None, key=KEY),
        data_digest(some, labels, key=KEY),
        data_digest(some, labels[::-1], key=KEY),
        data_digest(some[::-1], labels, key=KEY),
        data_digest(some[:3], labels[:3], key=KEY),
        data_digest(some, labels, key=OTHER),
    }
    assert len(seen) == 6


def test_the_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "site" / "privacy.key"
    key = open_key(path)
    assert open_key(path) == key
    assert len(key) == 32
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="32 bytes"):
        open_key(path)


def test_a_full_disk_leaves_no_empty_key(tmp_path: Path) -> None:
    """Every later start would have asked to restore it."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from phoenix_secure.privacy.record_hashes import open_key\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))\n"
        "open_key(Path(sys.argv[1]))\n"
    )
    key = tmp_path / "key"
    failed = subprocess.run([sys.executable, "-c", script, key], capture_output=True, text=True)
    assert "StorageError" in failed.stderr
    assert not key.exists()
    assert len(open_key(key)) == 32


def test_other_arrays_and_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        record_hashes(images(0).astype(float), key=KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        data_digest(images(0), None, key=b"")


def test_tags_are_equal_for_one_key_and_form_alone() -> None:
    images, key = np.zeros((2, 1, 4, 4), np.uint8), bytes(range(32))
    tag = comparison_tag(images, key=key)
    assert tag == comparison_tag(images[:1] + 7, key=key)  # of the form, not of the content
    assert tag != comparison_tag(np.zeros((2, 3, 4, 4), np.uint8), key=key)
    assert tag != comparison_tag(images, key=bytes(32))


def test_persons_are_hashed_once_and_under_the_key() -> None:
    groups = np.array([7, -2, 7, 5], np.int64)
    assert len(person_hashes(groups, key=KEY)) == 3
    assert person_hashes(groups, key=KEY) == person_hashes(groups[::-1], key=KEY)
    assert not set(person_hashes(groups, key=KEY)) & set(person_hashes(groups, key=OTHER))
    assert len({person_key(KEY), person_key(OTHER), KEY, bytes.fromhex(person_tag(key=KEY))}) == 4
    with pytest.raises(ValueError, match="32 bytes"):
        person_tag(key=b"short")


def test_a_digest_for_persons_sees_whose_an_image_is() -> None:
    one, people = images(0), np.array([1, 1, 2, 3], np.int64)
    plain = data_digest(one, None, key=KEY)
    found = data_digest(one, None, key=KEY, groups=people)
    assert len({plain, found, data_digest(one, None, key=KEY, groups=people[::-1])}) == 3
