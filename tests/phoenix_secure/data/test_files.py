"""Files of a folder: every one is read, passed over by name and number, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data import medical
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.inventory import Inventory
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import DataError

CAT, DOG = 50, 200


def picture(path: Path, shade: int, form: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8), shade, np.uint8)
    pixels[0] = np.frombuffer(str(path).encode()[-8:].rjust(8, b"."), np.uint8)
    Image.fromarray(pixels).save(path, form)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / "set" / "cat" / f"{number}.png", CAT)
        picture(tmp_path / "set" / "dog" / f"{number}.png", DOG)
    return tmp_path / "set"


def load(folder: Path, *, strict: bool = False) -> ImageSet:
    return load_images(
        "image-folder", path=str(folder), cache_dir=folder, rules=ReadingRules(strict=strict)
    )


def inventory(image_set: ImageSet) -> Inventory:
    assert image_set.inventory is not None
    return image_set.inventory


def shades(image_set: ImageSet) -> dict[str, list[int]]:
    """The shade of each picture by the name of its class: labels must follow the pixels."""
    assert image_set.labels is not None
    found: dict[str, list[int]] = {name: [] for name in image_set.class_names}
    for image, label in zip(image_set.images, image_set.labels, strict=True):
        found[image_set.class_names[label]].append(int(image[0, 4, 4]))
    return found


@pytest.mark.parametrize(
    ("suffix", "form"),
    [(".jfif", "JPEG"), ("", "PNG"), (".PNG", "PNG"), (".dat", "BMP"), (".pnm", "PPM")],
)
def test_pictures_of_any_suffix_are_read_by_content(folder: Path, suffix: str, form: str) -> None:
    for number in range(4):
        picture(folder / "dog" / f"x{number}{suffix}", DOG, form)
    found = shades(load(folder))
    lossy = 10
    assert (len(found["cat"]), len(found["dog"])) == (3, 7)
    assert all(abs(shade - DOG) < lossy for shade in found["dog"])


FOREIGN = {
    "a.heif": (b"x", "HEIC"),
    "c.heic": (b"x", "HEIC"),
    "d": (b"\0\0\0\x20ftypavif\0\0", "AVIF"),
    "f.jp2": (b"x", "JPEG 2000"),
    "g.NEF": (b"II*\0\x08\0\0\0", "camera raw"),
    "notes.txt": (b"P5 is a format", "no picture (.txt)"),
    "e.npy": (b"\x93NUMPY", "no picture (.npy)"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_read_is_named_and_counted(folder: Path, name: str) -> None:
    content, kind = FOREIGN[name]
    for number in range(5):
        (folder / "dog" / f"{number}{name}").write_bytes(content)
    found = inventory(load(folder))
    assert (found.num_read, found.num_passed_over) == (6, 5)
    assert kind in str(found.passed_over[0])
    assert f"dog/0{name}" in found.passed_over[0].first_names
    with pytest.raises(DataError, match=rf"strict.*5 .*{kind.split()[0]}"):
        load(folder, strict=True)


def test_a_warning_tells_what_was_passed_over(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(folder, strict=True)
    assert not caplog.text
    (folder / "dog" / "a.heic").write_bytes(b"x")
    load(folder)
    assert "6 read, 1 passed over (1 HEIC (.heic), not read (dog/a.heic))" in caplog.text


@pytest.mark.parametrize("name", ["a.dcm", "b.nii.gz", "c.nii", "IM0001"])
def test_medical_files_are_read_or_refused_and_named_where_their_reader_is_missing(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = bytes(128) + b"DICM" + bytes(9)
    (folder / "dog" / name).write_bytes(damaged)
    with pytest.raises(DataError, match=name):
        load(folder)
    monkeypatch.setattr(medical, "_PACKAGES", {"DICOM": "no_such_one", "NIfTI": "no_such_one"})
    found = inventory(load(folder))
    assert "phoenix-secure[medical]" in found.passed_over[0].why


def test_a_name_cannot_break_or_turn_the_line(folder: Path) -> None:
    (folder / "dog" / "a\n\u202eb.heic").write_bytes(b"x")
    found = inventory(load(folder))
    assert "(dog/a\ufffd\ufffdb.heic)" in str(found)
    assert found.passed_over[0].first_names == ("dog/a\n\u202eb.heic",)


@pytest.mark.parametrize(
    "name", ["__MACOSX", "@eaDir", ".cache", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN"]
)
@pytest.mark.parametrize("place", [".", "cat"])
def test_folders_of_the_system_are_no_classes(folder: Path, name: str, place: str) -> None:
    picture(folder / place / name / "cat" / "thumb.jpg", 128, "JPEG")
    found = load(folder)
    assert shades(found) == {"cat": [CAT] * 3, "dog": [DOG] * 3}
    assert inventory(found).passed_over[0].first_names == (str(Path(place) / name),)


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "~$notes.doc"]
)
def test_files_of_the_system_are_told_and_never_read(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    (folder / "cat" / name).write_bytes(b"x")
    assert inventory(load(folder)).num_passed_over == 2


def test_a_system_folder_moves_no_class_number(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / name).rename(folder / name.capitalize())
    (folder / "__MACOSX").mkdir()
    assert load(folder).class_names == ("Cat", "Dog")


def test_broken_links_are_an_error_that_names_the_first(folder: Path) -> None:
    for number in range(20):
        (folder / "dog" / f"annex{number:02}.png").symlink_to("../.git/annex/objects/1")
    with pytest.raises(DataError, match=r"annex00\.png is a link to nothing \(20 such"):
        load(folder)


def test_links_to_files_and_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "elsewhere" / f"{number}.png", DOG)
    picture(tmp_path / "alone.png", DOG)
    (folder / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "one.png").symlink_to(tmp_path / "alone.png")
    assert shades(load(folder)) == {"cat": [CAT] * 3, "dog": [DOG] * 8}


@pytest.mark.parametrize("target", [".", "..", "../cat"])
def test_links_that_lead_to_images_twice_are_refused(folder: Path, target: str) -> None:
    (folder / "dog" / "again").symlink_to(target)
    with pytest.raises(DataError, match="leads to the same folder"):
        load(folder)


def test_a_link_to_itself_is_broken(folder: Path) -> None:
    (folder / "dog" / "loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match="link to nothing"):
        load(folder)


def test_a_pipe_is_passed_over(folder: Path) -> None:
    os.mkfifo(folder / "dog" / "pipe.png")
    assert inventory(load(folder)).passed_over[0].why == "neither file nor folder"


def multi_picture(path: Path, kind: int) -> None:
    """A JPEG with a second picture of the given type (CIPA DC-007) behind the first."""
    first, second = (Image.new("L", (8, 8), shade) for shade in (DOG, 9))
    first.save(path, "MPO", save_all=True, append_images=[second])
    content = bytearray(path.read_bytes())
    at = content.index((0x030000).to_bytes(4, "little"), content.index(b"0100"))
    content[at + 16 : at + 20] = kind.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("kind", [0x010001, 0x010002, 0])
def test_the_first_picture_counts_where_the_others_are_previews(folder: Path, kind: int) -> None:
    multi_picture(folder / "dog" / "photo.jpg", kind)
    found = load(folder)
    assert [round(v, -1) for v in shades(found)["dog"]] == [DOG] * 4
    assert "preview" in inventory(found).notes[0]


def test_pictures_of_their_own_in_one_file_are_told_from_previews(folder: Path) -> None:
    multi_picture(folder / "dog" / "stereo.jpg", 0x020002)
    with pytest.raises(DataError, match=r"stereo\.jpg holds 2 pictures of their own.*Disparity"):
        load(folder)


def test_a_pointer_of_git_lfs_is_told(folder: Path) -> None:
    (folder / "dog" / "big.png").write_text("version https://git-lfs.github.com/spec/v1\noid 0\n")
    with pytest.raises(DataError, match=r"big\.png is a Git LFS pointer"):
        load(folder)


def test_a_folder_of_other_files_is_no_class(folder: Path) -> None:
    (folder / "csv").mkdir()
    assert load(folder).class_names == ("cat", "csv", "dog")  # empty: a class without images
    (folder / "csv" / "a.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"csv holds files but no picture"):
        load(folder)


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no pictures.*1 other files: HEIC"):
        load(tmp_path)


def test_classes_that_differ_in_capitals_or_encoding_alone_are_refused(folder: Path) -> None:
    picture(folder / "Cat" / "0.png", 60)
    with pytest.raises(DataError, match="'Cat' and 'cat'"):
        load(folder)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u00e9", "e\u0301"),  # of one letter, which Python keeps once: identity tells nothing
        ("stra\u00dfe", "STRASSE"),
        ("\u0130", "i\u0307"),
        ("owl", "owl "),
    ],
)
def test_two_spellings_of_a_class_are_refused(folder: Path, one: str, other: str) -> None:
    for name in (one, other):
        picture(folder / name / "0.png", 60)
    with pytest.raises(DataError, match="differ in capitals, spaces or encoding alone"):
        load(folder)


def test_class_names_are_one_spelling_on_every_system(folder: Path) -> None:
    (folder / "dog").rename(folder / "do\u0308g")  # as macOS writes it
    assert load(folder).class_names == ("cat", "d\u00f6g")


@pytest.mark.parametrize(
    ("one", "mask"),
    [
        ("benign (1)", "benign (1)_mask"),
        ("benign (1)", "benign (1)_mask_1"),
        ("7", "7_Segmentation"),
        ("a", "a-gt"),
    ],
)
def test_masks_beside_their_pictures_are_no_images(folder: Path, one: str, mask: str) -> None:
    picture(folder / "cat" / f"{mask}.png", 255)
    assert load(folder).num_images == 7  # of no picture: it may show a mask
    picture(folder / "cat" / f"{one}.jpg", 60)
    with pytest.raises(DataError, match="looks like a mask of the picture"):
        load(folder)


def test_where_no_image_decides_about_another_a_mask_is_left_out_by_its_own_name(
    folder: Path,
) -> None:
    def alone() -> ImageSet:
        return load_images(
            "image-folder",
            path=str(folder),
            image_size=8,
            channels=1,
            cache_dir=folder,
            rules=ReadingRules(each_alone=True),
        )

    before = alone()
    picture(folder / "cat" / "0_mask.png", 255)
    beside = alone()
    np.testing.assert_array_equal(beside.images, before.images)
    (passed_over,) = inventory(beside).passed_over
    assert passed_over.why == "mask(s), by their names"
    assert passed_over.first_names == ("cat/0_mask.png",)
    (folder / "cat" / "0.png").unlink()
    assert alone().num_images == 5  # the mask's picture has gone: nothing else has changed


def test_folders_of_images_and_masks_are_no_classes(folder: Path) -> None:
    (folder / "cat").rename(folder / "Images")
    (folder / "dog").rename(folder / "masks")
    with pytest.raises(DataError, match="images and their masks"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["cat/thumbs/0.png", "Thumbnails/cat/0.png", "cat/0.png~", "cat/0.png.bak"]
)
def test_copies_of_pictures_are_passed_over(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((folder / "cat" / "0.png").read_bytes())
    found = load(folder)
    assert shades(found) == {"cat": [CAT] * 3, "dog": [DOG] * 3}
    assert len(inventory(found).passed_over) == 1
