"""The images of an audit: one scale for all files, and the report can say which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.audit.images import images_of_files
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.errors import DataError


@pytest.fixture
def unit() -> tuple[np.ndarray, np.ndarray]:
    """Members and non-members in [0, 1]."""
    images = load_digits().images.astype(np.float32) / 255
    return images[:20], images[20:40]


def save(path: Path, images: np.ndarray) -> Path:
    np.savez(path, images=images)
    return path


def test_the_scale_is_told(unit: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    files = [save(tmp_path / f"{k}.npz", part) for k, part in enumerate(unit)]
    found = images_of_files(files[0], files[1], None, shape=None)
    assert found.scale == "--members floats in [0, 1], --non-members floats in [0, 1]"
    assert np.array_equal(found.members.images, load_digits().images[:20])


def test_a_value_just_outside_is_refused_in_either_file(
    unit: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    for odd in (0, 1):
        parts = [part.copy() for part in unit]
        parts[odd][0, 0, 0, 0] = -1e-7
        files = [save(tmp_path / f"{k}.npz", part) for k, part in enumerate(parts)]
        with pytest.raises(DataError, match=rf"{odd}\.npz: float pixels in -1\S*e-07\.\.1"):
            images_of_files(files[0], files[1], None, shape=None)


def test_members_and_non_members_of_two_scales_are_refused(
    unit: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    members = save(tmp_path / "members.npz", unit[0])
    others = save(tmp_path / "others.npz", unit[1] * 2 - 1)
    with pytest.raises(
        DataError, match=r"--members as .*\[0, 1\] and --non-members as .*\[-1, 1\]"
    ):
        images_of_files(members, others, None, shape=None)
