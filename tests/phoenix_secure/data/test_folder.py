from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import DataError


def load(folder: Path, **settings: int | None) -> ImageSet:
    return load_images("image-folder", path=str(folder), cache_dir=folder / "no-cache", **settings)  # type: ignore[arg-type]


def test_sub_folders_are_classes(class_folder: Path, mnist_5k: ImageSet) -> None:
    image_set = load(class_folder)
    assert image_set.class_names == ("digit 0", "digit 1", "digit 2")
    assert image_set.labels is not None
    assert image_set.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.array_equal(image_set.images[0], mnist_5k.images[0])
    assert image_set.source == str(class_folder)


def test_a_flat_folder_has_no_labels(class_folder: Path) -> None:
    image_set = load(class_folder / "digit 1")
    assert image_set.labels is None
    assert image_set.class_names == ()
    assert image_set.num_images == 3


def test_an_empty_class_folder_keeps_its_number(class_folder: Path) -> None:
    for file in (class_folder / "digit 1").iterdir():
        file.unlink()
    image_set = load(class_folder)
    assert image_set.num_classes == 3
    assert image_set.labels is not None
    assert set(image_set.labels.tolist()) == {0, 2}


def test_other_files_and_hidden_ones_are_passed_over(class_folder: Path) -> None:
    (class_folder / "README.txt").write_text("not a picture")
    (class_folder / "digit 0" / ".hidden.png").write_bytes(b"junk")
    (class_folder / ".git").mkdir()
    (class_folder / "digit 0" / "deeper").mkdir()
    (class_folder / "digit 0" / "0.png").rename(class_folder / "digit 0" / "deeper" / "0.PNG")
    assert load(class_folder).num_images == 9


def test_max_images_decodes_only_what_it_keeps(class_folder: Path) -> None:
    kept = load(class_folder, max_images=3)
    assert kept.labels is not None
    assert kept.labels.tolist() == [0, 1, 2]
    pictures = sorted(class_folder.rglob("*.png"))
    whole = load(class_folder)
    for i, file in enumerate(pictures):
        if not any(np.array_equal(whole.images[i], image) for image in kept.images):
            file.write_bytes(b"damaged, but nobody looks")
    assert np.array_equal(load(class_folder, max_images=3).images, kept.images)


def test_mixed_sizes_name_the_file_and_the_setting(class_folder: Path) -> None:
    odd = class_folder / "digit 2" / "9.png"
    Image.new("L", (30, 40)).save(odd)
    with pytest.raises(DataError, match=r"30 x 40 pixels.*set image_size") as caught:
        load(class_folder)
    assert str(odd) in str(caught.value)
    assert load(class_folder, image_size=16).images.shape == (10, 1, 16, 16)


def test_rectangles_need_a_size_and_are_cropped_not_stretched(tmp_path: Path) -> None:
    wide = np.zeros((20, 40), dtype=np.uint8)
    wide[:, 10:30] = 200  # the central square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match="not square: set image_size"):
        load(tmp_path)
    assert (load(tmp_path, image_size=20).images == 200).all()


def test_mixed_channels_name_the_setting(class_folder: Path) -> None:
    Image.new("RGB", (28, 28)).save(class_folder / "digit 0" / "9.png")
    with pytest.raises(DataError, match=r"3 channel\(s\).*set channels"):
        load(class_folder)
    assert load(class_folder, channels=3).channels == 3
    assert load(class_folder, channels=1).channels == 1


@pytest.mark.parametrize("keep", [0, 1, 30, 60, 0.5, 0.9])
def test_a_truncated_picture_is_named(class_folder: Path, keep: float) -> None:
    victim = class_folder / "digit 1" / "1.png"
    content = victim.read_bytes()
    victim.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(DataError) as caught:
        load(class_folder)
    assert str(victim) in str(caught.value)


def test_an_unreadable_picture_is_named(class_folder: Path) -> None:
    victim = class_folder / "digit 1" / "1.png"
    victim.unlink()
    victim.symlink_to(class_folder / "nowhere.png")
    with pytest.raises(DataError, match=r"digit 1/1\.png is a link to nothing \(1 such"):
        load(class_folder)
    victim.unlink()
    victim.mkdir()
    assert load(class_folder).num_images == 8
    if os.geteuid() != 0:  # root reads anything
        other = class_folder / "digit 1" / "2.png"
        other.chmod(0)
        with pytest.raises(DataError, match="check permissions"):
            load(class_folder)


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        load(tmp_path)
    (tmp_path / "a class").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        load(tmp_path)
    with pytest.raises(DataError, match="no folder at"):
        load(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="no folder at"):
        load(tmp_path / "file")


def test_pictures_beside_class_folders_are_refused(class_folder: Path) -> None:
    Image.new("L", (28, 28)).save(class_folder / "stray.png")
    with pytest.raises(DataError, match="beside the class folder"):
        load(class_folder)


def test_train_and_test_folders_are_not_taken_for_classes(class_folder: Path) -> None:
    root = class_folder.parent / "whole"
    root.mkdir()
    class_folder.rename(root / "train")
    (root / "test").mkdir()
    with pytest.raises(DataError, match="look like parts of a data set"):
        load(root)
    assert load(root / "train").num_images == 9
