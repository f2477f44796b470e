"""The PNGs that are made for people: partition plots and contact sheets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data.contact_sheet import contact_sheet, save_contact_sheet
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.partition_plot import save_partition_plot
from phoenix_secure.data.partition_schemes import dirichlet, iid
from phoenix_secure.errors import StorageError


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def names(num_sites: int) -> list[str]:
    return [f"site {k}" for k in range(num_sites)]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.long
@pytest.mark.parametrize("num_sites", [1, 5, 50])
def test_holdings_plot_shows_every_class_colour(
    tmp_path: Path, mnist_5k: ImageSet, num_sites: int
) -> None:
    assert mnist_5k.labels is not None
    parts = dirichlet(mnist_5k.labels, num_sites=num_sites, alpha=1.0, rng=rng())
    save_partition_plot(
        mnist_5k, parts, path=tmp_path / "partition.png", site_names=names(num_sites)
    )
    packed = read(tmp_path / "partition.png").astype(np.int64) @ [1 << 16, 1 << 8, 1]
    tab10 = {0x1F77B4, 0xFF7F0E, 0x2CA02C, 0xD62728, 0x9467BD, 0x8C564B, 0xE377C2}
    assert set(np.unique(packed).tolist()) >= tab10


@pytest.mark.long
def test_plot_of_very_many_sites_shows_the_first(tmp_path: Path, digits: ImageSet) -> None:
    """1,500 rows would be more than the drawing library takes, and 500 took two gigabytes."""
    path = tmp_path / "partition.png"
    parts = iid(digits.num_images, num_sites=1500, rng=rng())
    save_partition_plot(digits, parts, path=path, site_names=names(1500))
    assert read(path).shape[0] < 8000


def test_holdings_plot_contains_the_images_themselves(tmp_path: Path, digits: ImageSet) -> None:
    """A set whose images are all pure red must leave red cells, and a green one green."""
    for channel in (0, 1):
        pixels = np.zeros((20, 3, 8, 8), dtype=np.uint8)
        pixels[:, channel] = 255
        plain = dataclasses.replace(
            digits, images=pixels, labels=None, class_names=(), name="plain"
        )
        path = tmp_path / f"{channel}.png"
        save_partition_plot(plain, iid(20, num_sites=2, rng=rng()), path=path, site_names=names(2))
        colour = [255 * (c == channel) for c in range(3)]
        assert (read(path) == colour).all(axis=2).mean() > 0.1


def test_more_classes_than_colours_still_draw(tmp_path: Path, digits: ImageSet) -> None:
    labels = np.arange(digits.num_images) % 40
    many = dataclasses.replace(
        digits, labels=labels, class_names=tuple(f"class {c}" for c in range(40))
    )
    parts = iid(digits.num_images, num_sites=3, rng=rng())
    save_partition_plot(
        many, parts, path=tmp_path / "many.png", site_names=["$x_{", "<b>", "é" * 99]
    )
    assert read(tmp_path / "many.png").std() > 10


def test_holdings_plot_refuses_names_and_parts_that_do_not_match(
    tmp_path: Path, digits: ImageSet
) -> None:
    parts = iid(digits.num_images, num_sites=3, rng=rng())
    for bad_parts, bad_names in ((parts, names(2)), ([], []), ([np.arange(0)], names(1))):
        with pytest.raises(ValueError, match="expected at least one site"):
            save_partition_plot(
                digits, bad_parts, path=tmp_path / "never.png", site_names=bad_names
            )
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet_shows_the_first_images_of_each_class(digits: ImageSet) -> None:
    sheet = contact_sheet(digits, columns=3)
    factor, cell = 6, 50
    assert sheet.shape == (10 * cell + 2, 3 * cell + 2, 3)
    assert digits.labels is not None
    for label in (0, 7):
        for column in range(3):
            index = np.flatnonzero(digits.labels == label)[column]
            top, left = label * cell + 2, column * cell + 2
            shown = sheet[top : top + 48 : factor, left : left + 48 : factor, 0]
            assert np.array_equal(shown, digits.images[index, 0])


@pytest.mark.parametrize(("num_images", "rows"), [(1, 1), (4, 1), (5, 2), (100, 10)])
def test_contact_sheet_without_labels_fills_row_by_row(
    digits: ImageSet, num_images: int, rows: int
) -> None:
    plain = dataclasses.replace(digits, labels=None, class_names=()).take(np.arange(num_images))
    assert contact_sheet(plain, columns=4).shape[0] == rows * 50 + 2


def test_contact_sheet_is_written_whole_or_not_at_all(tmp_path: Path, digits: ImageSet) -> None:
    save_contact_sheet(digits, path=tmp_path / "new" / "sheet.png")
    assert np.array_equal(read(tmp_path / "new" / "sheet.png"), contact_sheet(digits, columns=12))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        save_contact_sheet(digits, path=tmp_path / "file" / "sheet.png")
    with pytest.raises(ValueError, match="columns"):
        contact_sheet(digits, columns=0)
