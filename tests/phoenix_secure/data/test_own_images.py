"""Each kind of a site's own data, with one record more: good, damaged, or without a class."""

from __future__ import annotations

import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from phoenix_secure.config import DataConfig
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.own_images import keyed_members
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError, DataError

KEY = bytes(32)
PLAN = DataConfig(image_size=8, channels=1, held_out=0.2, reference=0.1)


@pytest.fixture
def folder(digits: ImageSet, tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    for number, image in enumerate(digits.images[:40]):
        Image.fromarray(image[0]).save(made / f"{number:03}.png")
    return made


def members(path: Path, name: str = "image-folder", plan: DataConfig = PLAN) -> SiteImages:
    return keyed_members(name, str(path), plan=plan, key=KEY, cache_dir=path.parent / "cache")


def differ_in_one(first: SiteImages, second: SiteImages) -> bool:
    """Whether one entry more in one of them is all the difference."""
    a, b = ([image.tobytes() for image in each.images] for each in (first, second))
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return len(longer) == len(shorter) + 1 and any(
        longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer))
    )


def test_every_file_taken_away_changes_one_entry_or_none(folder: Path) -> None:
    whole = members(folder)
    changed = 0
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        file.unlink()
        without = members(folder)
        if not np.array_equal(whole.images, without.images):
            assert differ_in_one(whole, without)
            changed += 1
        file.write_bytes(content)
    assert changed == len(whole.images)  # the others are held out or references


def test_new_names_for_all_files_change_nothing(folder: Path) -> None:
    whole = members(folder)
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        file.rename(folder / f"x{number:03}.png")
    assert np.array_equal(members(folder).images, whole.images)


@pytest.mark.parametrize("kind", ["damaged", "empty", "16 bit", "two frames", "another size"])
def test_a_picture_that_cannot_be_read_is_left_out_alone(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, bad = members(folder), folder / "000-bad.png"
    match kind:
        case "damaged":
            bad.write_bytes((folder / "000.png").read_bytes()[:-20])
        case "empty":
            bad.write_bytes(b"")
        case "16 bit":
            Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(bad)
        case "two frames":
            bad = bad.with_suffix(".gif")
            frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
            frames[0].save(bad, save_all=True, append_images=frames[1:])
        case _:
            Image.new("RGB", (30, 11), "red").save(bad)
    with_bad = members(folder)
    if kind == "another size":  # brought to the plan's form: a record like any other
        assert np.array_equal(whole.images, with_bad.images) or differ_in_one(whole, with_bad)
        return
    assert np.array_equal(whole.images, with_bad.images)
    assert f"left out: {bad}" in caplog.text
    with pytest.raises(DataError):  # without a guarantee nothing is skipped
        load_images("image-folder", path=str(folder), image_size=8, channels=1, cache_dir=folder)


def test_a_picture_beside_class_folders_is_left_out_alone(folder: Path) -> None:
    (folder / "a").mkdir()
    for file in sorted(folder.glob("*.png")):
        file.rename(folder / "a" / file.name)
    whole = members(folder)
    shutil.copy(folder / "a" / "000.png", folder / "loose.png")
    assert np.array_equal(members(folder).images, whole.images)


def test_a_folder_without_images_gives_none(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    assert members(folder).images.shape == (0, 1, 8, 8)
    (folder / "bad.png").write_bytes(b"no picture")
    assert members(folder).images.shape == (0, 1, 8, 8)
    with pytest.raises(DataError, match="no folder"):
        members(folder / "missing")


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_no_scale_is_read_off_the_pixels_of_an_npz(digits: ImageSet, tmp_path: Path) -> None:
    images = digits.images[:30]
    dark = images // 255  # 0 and 1 alone: elsewhere an error, that one bright image would lift
    found = members(save(tmp_path / "dark.npz", images=dark), "npz")
    brighter = np.concatenate([dark, images[:1]])
    again = members(save(tmp_path / "brighter.npz", images=brighter), "npz")
    assert np.array_equal(found.images, again.images) or differ_in_one(found, again)
    for wrong in (images.astype(np.float32) / 255, images.astype(np.int64)):
        with pytest.raises(DataError, match="uint8"):
            members(save(tmp_path / "wrong.npz", images=wrong), "npz")


def test_three_grey_images_are_read_like_two_and_five(digits: ImageSet, tmp_path: Path) -> None:
    everyone = DataConfig(image_size=8, channels=1, held_out=0, reference=0)
    for number in range(1, 6):
        file = save(tmp_path / "few.npz", images=digits.images[:number, 0])
        assert len(members(file, "npz", everyone).images) == number


def test_a_window_maps_each_image_alone(digits: ImageSet, tmp_path: Path) -> None:
    plan = DataConfig(image_size=8, channels=1, held_out=0, reference=0, window=(0, 4095))
    deep = np.rint(digits.images[:9] / 255 * 4095)
    deep[4, 0, 2, 2] = np.nan
    found = members(save(tmp_path / "deep.npz", images=deep), "npz", plan)
    expected = {image.tobytes() for index, image in enumerate(digits.images[:9]) if index != 4}
    assert {image.tobytes() for image in found.images} == expected


def test_strict_is_for_looking_and_not_for_private_runs(folder: Path) -> None:
    rules = ReadingRules(each_alone=True, strict=True)
    with pytest.raises(ConfigError, match="data show --strict"):
        load_images(
            "image-folder",
            path=str(folder),
            image_size=8,
            channels=1,
            cache_dir=folder,
            rules=rules,
        )


def test_a_label_decides_about_its_own_image_alone(digits: ImageSet, tmp_path: Path) -> None:
    images = digits.images[:30]
    labels, names = np.zeros(30, np.int64), np.array(["a", "b"])
    file = save(tmp_path / "own.npz", images=images, labels=labels, class_names=names)
    whole = members(file, "npz")
    for strange in (-1, 2, 1):
        changed = labels.copy()
        changed[7] = strange
        file = save(tmp_path / "own.npz", images=images, labels=changed, class_names=names)
        found = members(file, "npz")
        if strange == 1:  # another class: the same place
            assert np.array_equal(found.images, whole.images)
        else:
            assert np.array_equal(found.images, whole.images) or differ_in_one(found, whole)
    unnamed = members(save(tmp_path / "own.npz", images=images, labels=changed), "npz")
    assert unnamed.labels is None
    assert np.array_equal(unnamed.images, whole.images)
    empty = save(tmp_path / "none.npz", images=images[:0])
    assert len(members(empty, "npz").images) == 0


def test_rows_of_parquet_are_judged_alone(digits: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "rows"

    def write(rows: list[Image.Image | None], labels: list[int | None] | None = None) -> Path:
        folder.mkdir(exist_ok=True)
        features, columns = {"image": datasets.Image()}, {"image": rows}
        if labels is not None:
            features["label"] = datasets.ClassLabel(names=["a", "b"])
            columns["label"] = labels
        made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        made.to_parquet(folder / "train.parquet")
        return folder

    pictures = [Image.fromarray(image[0]) for image in digits.images[:20]]
    whole = members(write(pictures), "huggingface")
    assert np.array_equal(members(write([*pictures, None]), "huggingface").images, whole.images)
    fewer = members(write(pictures[1:]), "huggingface")
    assert np.array_equal(fewer.images, whole.images) or differ_in_one(fewer, whole)
    labelled = members(write(pictures, [0, 1] * 10), "huggingface")
    assert np.array_equal(labelled.images, whole.images)
    # A row whose label is missing, at either end and of a member or not, is left out alone.
    for row in (0, 7, 19):
        labels: list[int | None] = [0, 1] * 10
        labels[row] = None
        found = members(write(pictures, labels), "huggingface")
        assert np.array_equal(found.images, whole.images) or differ_in_one(found, whole)
        assert found.labels is not None


def test_form_and_number_must_be_stated(folder: Path) -> None:
    with pytest.raises(ConfigError, match="image_size"):
        members(folder, plan=DataConfig(channels=1))
    for wrong, message in (
        ({"image_size": 8}, "data.channels"),
        ({"image_size": 8, "channels": 1, "max_images": 5}, "data.fraction"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_images(
                "image-folder",
                path=str(folder),
                cache_dir=folder,
                rules=ReadingRules(each_alone=True),
                **wrong,  # type: ignore[arg-type]
            )
