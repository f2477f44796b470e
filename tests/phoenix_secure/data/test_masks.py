"""Masks are no images, however their files and folders are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.masks import is_mask_by_name, require_no_masks
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import DataError


def load(root: Path, files: list[str]) -> ImageSet:
    for number, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 + number, np.uint8)).save(root / name)
    return load_images("image-folder", path=str(root), cache_dir=root / "no-cache")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("JPEGImages", "SegmentationClass"),
        ("CXR_png", "ManualMask"),
        ("original", "mask"),
        ("images", "ground_truth"),
        ("Image", "GT"),
    ],
)
def test_a_folder_of_masks_beside_one_of_images_is_no_class(
    tmp_path: Path, images: str, masks: str
) -> None:
    with pytest.raises(DataError, match="images and their masks") as refused:
        load(tmp_path, [f"{images}/0.png", f"{masks}/0.png"])
    assert str(refused.value).endswith(f"such as {tmp_path / images}")


@pytest.mark.parametrize(
    "files",
    [
        ["COVID/images/0.png", "COVID/masks/0.png", "Normal/images/0.png"],
        ["cat/0.png", "cat/masks/0.png"],
        ["images/0.png", "images/masks/0.png"],
    ],
)
def test_masks_inside_of_a_class_are_refused(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(DataError, match="masks looks like masks of the images around it"):
        load(tmp_path, files)


@pytest.mark.parametrize("other", ["no_mask", "without_mask"])
def test_masks_that_people_wear_are_a_class(tmp_path: Path, other: str) -> None:
    assert load(tmp_path, ["mask/0.png", f"{other}/0.png"]).class_names == ("mask", other)


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("1.png", "mask_1.png"),
        ("image_1.png", "label_1.png"),
        ("1.png", "1_label.png"),
        ("ISIC_0.jpg", "ISIC_0_superpixels.png"),
        ("21.tif", "21_manual1.gif"),
        ("case_1.nii.gz", "case_1_seg.nii.gz"),
        ("BraTS_1_flair.nii.gz", "BraTS_1_seg.nii.gz"),
    ],
)
def test_a_mask_is_found_by_its_picture(picture: str, mask: str) -> None:
    with pytest.raises(DataError, match="looks like a mask of the picture"):
        require_no_masks([Path("a") / picture, Path("a") / mask])
    require_no_masks([Path("a") / picture, Path("b") / mask])
    require_no_masks([Path("a") / mask])


def test_a_picture_whose_name_only_goes_on_is_no_mask_s() -> None:
    require_no_masks([Path("12.png"), Path("1_mask.png")])


def test_suffixes_of_two_words_hide_no_mask() -> None:
    assert is_mask_by_name(Path("BraTS_1_seg.nii.gz"))
    assert not is_mask_by_name(Path("BraTS_1_t1.nii.gz"))
    assert not is_mask_by_name(Path("1_label.png"))  # of what is shown, perhaps
