"""Exported images come back with the same pixels, each with a class of the same name."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.deep_export import DeepScale
from phoenix_secure.data.export import DeepImages, ExportLayout, export_images
from phoenix_secure.data.images import ImageSet, from_unit_range
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError, DataError
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
    strict = ReadingRules(strict=True)
    found = load_images(SOURCE[layout][0], path=str(target), cache_dir=path, rules=strict)
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


@given(
    st.sampled_from([(0.0, 4095.0), (-1000.0, 400.0), (0.0, 1.0), (-1e6, 1e6), (100.0, 65535.0)]),
    st.integers(0, 2**32 - 1),
)
def test_sixteen_bits_hold_the_values_that_the_window_mapped(
    tmp_path_factory: pytest.TempPathFactory, window: tuple[float, float], seed: int
) -> None:
    """Out and in again: the values to half a step, and the same bytes as without the way round."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1.1, 1.1, (5, 1, 8, 8)).astype(np.float32)
    scale = DeepScale.of(window)
    deep = DeepImages(pixels=scale.pixels(images), scale=scale)
    values = scale.slope * deep.pixels + scale.intercept
    wanted = window[0] + (np.clip(images.astype(np.float64), -1, 1) + 1) / 2 * np.ptp(window)
    assert np.abs(values - wanted).max() <= scale.slope * 0.501
    bytes_of = from_unit_range(images)
    target = tmp_path_factory.mktemp("deep") / "out"
    export_images(
        bytes_of, target, layout=ExportLayout.IMAGEFOLDER, labels=None, class_names=(),
        encode=Marker(Origin()), deep=deep,
    )  # fmt: skip
    told = json.loads((target / "scale.json").read_text())
    rules = ReadingRules(window=tuple(told["data_window"]), strict=True)
    found = load_images("image-folder", path=str(target), cache_dir=target, rules=rules)
    # A step of the 16-bit pixels is less than half of one of the bytes.
    assert np.abs(found.images.astype(int) - bytes_of).max() <= 1
    assert (found.images == bytes_of).mean() > 0.7
    assert all(
        each.answer is Answer.MARKED for each in check_marks(target) if each.path.suffix == ".png"
    )


def test_the_scale_beside_pictures_is_asked_for_and_not_lost(tmp_path: Path) -> None:
    scale = DeepScale.of((-1000.0, 400.0))
    deep = DeepImages(pixels=scale.pixels(np.zeros((2, 1, 8, 8))), scale=scale)
    images, names = np.zeros((2, 1, 8, 8), np.uint8), ("a", "b")
    target = export(
        tmp_path, images, ExportLayout.CLASS_FOLDERS, labels=np.array([0, 1]), class_names=names,
        deep=deep,
    )  # fmt: skip

    def load(window: tuple[float, float] | None) -> ImageSet:
        rules = ReadingRules(window=window, strict=True)
        return load_images("image-folder", path=str(target), cache_dir=tmp_path, rules=rules)

    with pytest.raises(DataError, match=r"set data\.window to \[0, 1400\], as scale\.json says"):
        load(None)
    assert load((0, 1400)).inventory.notes == ()
    assert load((0, 1400)).class_names == names
    assert "scale.json beside the pictures says" in load((0, 4095)).inventory.notes[0]
    for foreign in ("[]", "{", '{"slope": 0, "window": [0, 1], "intercept": 0}'):
        (target / "scale.json").write_text(foreign)
        with pytest.raises(DataError, match=r"strict.*scale\.json"):
            load((0, 1400))
