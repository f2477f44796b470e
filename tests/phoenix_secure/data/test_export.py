"""Exported images come back with the same pixels, each with a class of the same name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.export import ExportLayout, export_images
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError
from phoenix_secure.marks.check import Answer, check_marks
from phoenix_secure.marks.marker import Marker
from phoenix_secure.marks.origin import Origin

NAMES = ("zebra", "ape", "dög 犬")
SOURCE = {
    ExportLayout.CLASS_FOLDERS: ("image-folder", "out"),
    ExportLayout.IMAGEFOLDER: ("image-folder", "out"),
    ExportLayout.NPZ: ("npz", "out.npz"),
}
LAYOUTS = tuple(ExportLayout)


def export(path: Path, images: np.ndarray, layout: ExportLayout, **labelled: object) -> Path:
    target = path / SOURCE[layout][1]
    given = {"labels": None, "class_names": (), "encode": Marker(Origin()), **labelled}
    export_images(images, target, layout=layout, **given)  # type: ignore[arg-type]
    return target


def content(found: ImageSet) -> Counter[tuple[bytes, str | None]]:
    names = [None] * found.num_images
    if found.labels is not None:
        names = [found.class_names[label] for label in found.labels]
    return Counter((image.tobytes(), name) for image, name in zip(found.images, names, strict=True))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.sampled_from(LAYOUTS), st.booleans())
def test_the_same_images_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    channels: int,
    layout: ExportLayout,
    labelled: bool,
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (7, channels, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 3, 7) if labelled else None
    if layout is ExportLayout.CLASS_FOLDERS and not labelled:
        return
    path = tmp_path_factory.mktemp("export")
    names = NAMES if labelled else ()
    target = export(path, images, layout, labels=labels, class_names=names)
    found = load_images(SOURCE[layout][0], path=str(target), cache_dir=path)
    expected = Counter(
        (image.tobytes(), None if labels is None else NAMES[labels[number]])
        for number, image in enumerate(images)
    )
    assert content(found) == expected


def test_the_datasets_package_reads_the_imagefolder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    images = np.arange(3 * 64).reshape(3, 1, 8, 8).astype(np.uint8)
    target = export(
        tmp_path, images, ExportLayout.IMAGEFOLDER, labels=np.array([2, 0, 1]), class_names=NAMES
    )
    found = datasets.load_dataset(str(target), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["label"] == [NAMES[2], NAMES[0], NAMES[1]]
    assert np.array_equal(np.asarray(found[1]["image"]), images[1, 0])


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "..", ".hidden", "__MACOSX", "test", "a\\b"]
)
def test_names_of_a_model_lead_nowhere(tmp_path: Path, name: str) -> None:
    images, labels = np.zeros((1, 1, 8, 8), np.uint8), np.array([0])
    with pytest.raises(ConfigError, match="cannot be a folder's name"):
        export(tmp_path, images, ExportLayout.CLASS_FOLDERS, labels=labels, class_names=(name,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_overwritten(tmp_path: Path, layout: ExportLayout) -> None:
    target = tmp_path / SOURCE[layout][1]
    target.mkdir()
    images, labels = np.zeros((1, 1, 8, 8), np.uint8), np.array([0])
    with pytest.raises(ConfigError, match="is there already"):
        export(tmp_path, images, layout, labels=labels, class_names=("a",))
    assert list(target.iterdir()) == []


def test_class_folders_need_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs labels"):
        export(tmp_path, np.zeros((1, 1, 8, 8), np.uint8), ExportLayout.CLASS_FOLDERS)


@pytest.mark.parametrize("layout", [ExportLayout.CLASS_FOLDERS, ExportLayout.IMAGEFOLDER])
def test_every_exported_picture_says_that_it_is_synthetic(
    layout: ExportLayout, tmp_path: Path
) -> None:
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)
    target = export(tmp_path, images, layout, labels=np.array([0, 1]), class_names=("a", "b"))
    pictures = [each for each in check_marks(target) if each.path.suffix == ".png"]
    assert [each.answer for each in pictures] == [Answer.MARKED] * 2
