from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def load(path: Path, **settings: Any) -> ImageSet:
    return load_images("npz", path=str(path), cache_dir=path.parent, **settings)


def test_every_layout_gives_the_same_images(path: Path, digits: ImageSet) -> None:
    grey = digits.images
    for layout in (grey, grey[:, 0], grey.transpose(0, 2, 3, 1)):
        np.savez(path, images=layout, labels=digits.labels)
        loaded = load(path)
        assert loaded.digest() == digits.digest()
    colour = np.repeat(grey, 3, axis=1)
    for layout in (colour, colour.transpose(0, 2, 3, 1)):
        np.savez(path, images=layout)
        assert np.array_equal(load(path).images, colour)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_read_in_either_range_and_the_source_says_which(
    path: Path, digits: ImageSet, dtype: type
) -> None:
    unit = digits.images.astype(np.float64) / 255
    for scaled, words in ((unit, "[0, 1]"), (unit * 2 - 1, "[-1, 1]")):
        np.savez(path, images=scaled.astype(dtype))
        loaded = load(path)
        assert np.array_equal(loaded.images, digits.images)
        assert words in loaded.source


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_integers_are_read_as_bytes(path: Path, digits: ImageSet, dtype: type) -> None:
    np.savez(path, images=digits.images.astype(dtype))
    loaded = load(path)
    assert np.array_equal(loaded.images, digits.images)
    assert "0..255" in loaded.source


def test_labels_of_one_column_and_class_names_are_read(path: Path, digits: ImageSet) -> None:
    assert digits.labels is not None
    names = np.array([f"digit {i}" for i in range(10)])
    np.savez(
        path,
        images=digits.images,
        labels=digits.labels[:, np.newaxis].astype(np.uint8),
        class_names=names,
    )
    loaded = load(path)
    assert np.array_equal(loaded.labels, digits.labels)
    assert loaded.class_names == tuple(names.tolist())


def test_medmnist_layout_has_a_training_and_a_test_part(path: Path, digits: ImageSet) -> None:
    assert digits.labels is not None
    np.savez(
        path,
        train_images=digits.images[:100, 0],
        train_labels=digits.labels[:100, np.newaxis],
        val_images=digits.images[100:110, 0],
        val_labels=digits.labels[100:110, np.newaxis],
        test_images=digits.images[110:130, 0],
        test_labels=digits.labels[110:130, np.newaxis],
    )
    assert np.array_equal(load(path).images, digits.images[:100])
    test_part = load_test_images("npz", path=str(path), cache_dir=path.parent)
    assert np.array_equal(test_part.images, digits.images[110:130])
    assert np.array_equal(test_part.labels, digits.labels[110:130])


def test_a_missing_test_part_is_named(path: Path, digits: ImageSet) -> None:
    np.savez(path, images=digits.images)
    with pytest.raises(DataError, match="no array test_images"):
        load_test_images("npz", path=str(path), cache_dir=path.parent)


def test_settings_apply(path: Path, digits: ImageSet) -> None:
    np.savez(path, images=digits.images, labels=digits.labels)
    loaded = load(path, image_size=16, channels=3, max_images=20)
    assert loaded.images.shape == (20, 3, 16, 16)
    assert loaded.labels is not None
    assert np.bincount(loaded.labels).tolist() == [2] * 10


GOOD = np.linspace(0, 1, 2 * 4 * 4).reshape(2, 4, 4)


def spoilt(value: float) -> np.ndarray:
    images = GOOD.copy()
    images[1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": spoilt(np.nan)}, r"1 image\(s\) hold NaN or infinity, the first is image 1"),
        ({"images": spoilt(np.inf)}, "NaN or infinity"),
        ({"images": spoilt(-np.inf)}, "NaN or infinity"),
        ({"images": spoilt(1.5)}, r"float pixels in 0\.\.1\.5"),
        ({"images": spoilt(-1.5)}, r"expected \[0, 1\] or \[-1, 1\]"),
        ({"images": GOOD * 255}, r"float pixels in 0\.\.255.*save 0\.\.255 as uint8"),
        ({"images": (GOOD * 300).astype(np.int32)}, r"integer pixels in 0\.\.300"),
        ({"images": (GOOD * 200 - 5).astype(np.int32)}, r"integer pixels in -5\.\."),
        ({"images": (GOOD > 0.5).astype(np.uint8)}, "black images"),
        ({"images": GOOD > 0.5}, "images are bool"),
        ({"images": GOOD + 1j}, "images are complex128"),
        ({"images": np.array([["a"]])}, "have shape"),
        ({"images": np.zeros((4, 4))}, r"have shape \(4, 4\)"),
        ({"images": np.zeros((1, 2, 4, 4, 3))}, "have shape"),
        ({"images": np.zeros((0, 4, 4))}, "have shape"),
        ({"images": np.zeros((2, 4, 5))}, "not square"),
        ({"images": np.zeros((2, 4, 4, 2))}, "channel axis"),
        ({"images": np.zeros((2, 3, 3, 3))}, "channel axis"),
        ({"pictures": GOOD}, "no array images, only pictures"),
        ({}, "no array images, only nothing"),
        ({"images": GOOD, "labels": np.array([0])}, "one for each of 2 images"),
        ({"images": GOOD, "labels": np.array([[0, 1], [1, 0]])}, "one for each of 2 images"),
        ({"images": GOOD, "labels": np.array([0.0, 1.0])}, "expected integers"),
        ({"images": GOOD, "labels": np.array(["cat", "dog"])}, "expected integers"),
        ({"images": GOOD, "labels": np.array([-1, 0])}, r"labels in -1\.\.0"),
        ({"images": GOOD, "labels": np.array([0, 10**9])}, r"expected 0\.\.K-1"),
        (
            {"images": GOOD, "labels": np.array([0, 1]), "class_names": np.array(["one"])},
            r"labels in 0\.\.1, but only 1 class name",
        ),
        (
            {"images": GOOD, "labels": np.array([0, 1]), "class_names": np.array([1, 2])},
            "class_names",
        ),
    ],
)
def test_wrong_arrays_are_named(path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


def test_object_arrays_are_refused_and_never_unpickled(path: Path) -> None:
    target = path.parent / "exploded"
    np.savez(path, images=np.array([Bomb(target)], dtype=object))
    with pytest.raises(DataError, match="pickle can run code"):
        load(path)
    assert not target.exists()


def test_two_arrays_of_one_name_are_refused(path: Path) -> None:
    """numpy takes the last without a word."""
    with zipfile.ZipFile(path, "w") as archive:
        for value in (50, 200):
            buffer = io.BytesIO()
            np.save(buffer, np.full((2, 8, 8), value, np.uint8))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("images.npy", buffer.getvalue())
    with pytest.raises(DataError, match="two arrays named images"):
        load(path)


def test_what_unpacks_beyond_all_measure_is_refused_before_it_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phoenix_secure.data.archive._RATIO_FROM", 1 << 16)
    np.savez_compressed(path, images=np.zeros((100, 64, 64), np.uint8))
    with pytest.raises(DataError, match=r"unpacks to 409,728 bytes.*save it with np\.savez"):
        load(path)
    black = np.zeros((100, 64, 64), np.uint8)
    black[0, 0, 0] = 255
    np.savez(path, images=black)
    assert load(path).num_images == 100


def test_files_that_are_no_archives_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        load(path)
    with pytest.raises(DataError, match="no file at"):
        load(path.parent)
    for content in (b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged, or no"):
            load(path)
    np.save(path.with_suffix(".npy"), GOOD)
    with pytest.raises(DataError, match=r"is not an \.npz archive"):
        load(path.with_suffix(".npy"))


@given(st.data())
def test_damaged_archives_are_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez_compressed(path, images=(GOOD * 255).astype(np.uint8), labels=np.array([0, 1]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        loaded = load(path)
    except DataError:
        return
    assert np.array_equal(loaded.images[:, 0], (GOOD * 255).astype(np.uint8))
