"""Names that speak of parts: nothing is read, and nothing mixed, until the user says which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.config import DataConfig
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.parts import part_of_name
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import ConfigError, DataError

SHADES = {"train": 50, "test": 200, "validation": 120}


@pytest.mark.parametrize(
    ("part", "names"),
    {
        "train": [
            "train",
            "Train_images",
            "TRAINING",
            "mnist-train",
            "trainset",
            "x_train",
            "trainA",
            "imagesTr",
        ],
        "test": [
            "test",
            "Test_images",
            "my.test",
            "testData",
            "img_test_01",
            "TESTING",
            "Xtest",
            "labelsTs",
        ],
        "validation": ["val", "VALID", "validation", "dev", "valSet", "fold1-val", "eval"],
    }.items(),
)
def test_words_of_a_part(part: str, names: list[str]) -> None:
    assert {name: part_of_name(name) for name in names} == dict.fromkeys(names, part)


@pytest.mark.parametrize(
    "name",
    ["strain", "latest", "contest", "valley", "interval", "devil", "invalid", "rain", "", "犬"],
)
def test_words_that_only_contain_one(name: str) -> None:
    assert part_of_name(name) is None


@given(
    st.sampled_from(["train", "test", "val"]),
    st.sampled_from(["_", "-", ".", " ", "1"]),
    st.text("abcxyz", max_size=5),
)
def test_a_word_is_found_at_any_place(word: str, gap: str, other: str) -> None:
    known = {"train": "train", "test": "test", "val": "validation"}[word]
    for name in (
        f"{word}{gap}{other}",
        f"{other}{gap}{word}",
        f"{other}{gap}{word.upper()}{gap}{other}",
    ):
        assert part_of_name(name) == known


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(path)


def tree(root: Path, **folders: str) -> Path:
    """``train="a/b"``: two pictures of the part's shade in each of a/b/cat and a/b/dog."""
    for part, folder in folders.items():
        for name in ("cat", "dog"):
            for number in range(2):
                picture(root / folder / name / f"{number}.png", SHADES[part])
    return root


def load(folder: Path, part: str | None = None, *, each_alone: bool = False) -> ImageSet:
    form = {"image_size": 8, "channels": 1} if each_alone else {}
    rules = ReadingRules(part=part, each_alone=each_alone)
    return load_images("image-folder", path=str(folder), cache_dir=folder, rules=rules, **form)


LAYOUTS = [
    {"train": "train", "test": "test"},
    {"train": "Train_images", "test": "Test_images"},
    {"train": "training", "test": "testing", "validation": "valid"},
    {"train": "data/train", "test": "data/test"},
    {"train": "beans-train", "test": "beans-test"},
    {"train": "a/b/TRAIN", "validation": "a/b/dev"},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("beside", [None, "csv", "__MACOSX"])
@pytest.mark.parametrize("each_alone", [False, True])
def test_parts_are_refused_until_one_is_chosen(
    tmp_path: Path, layout: dict[str, str], beside: str | None, each_alone: bool
) -> None:
    tree(tmp_path, **layout)
    if beside:
        (tmp_path / beside).mkdir()
        (tmp_path / beside / "x.csv").write_text("a\n")
    with pytest.raises(DataError, match=r"look like parts.*data\.part"):
        load(tmp_path, each_alone=each_alone)
    for part in layout:
        found = load(tmp_path, part, each_alone=each_alone)
        assert found.class_names == ("cat", "dog")
        assert found.labels is not None
        assert found.labels.tolist() == [0, 0, 1, 1]
        assert (found.images == SHADES[part]).all()
        assert found.inventory is not None
        assert found.inventory.part == part


def test_a_part_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    tree(tmp_path, train="train", test="test")
    with pytest.raises(DataError, match="no validation part, only test, train"):
        load(tmp_path, "validation")


def test_all_takes_the_names_as_any_others(tmp_path: Path) -> None:
    for name in ("valid", "invalid"):
        picture(tmp_path / name / "0.png", 50)
    with pytest.raises(DataError, match="parts"):
        load(tmp_path)
    assert load(tmp_path, "all").class_names == ("invalid", "valid")


def test_parts_inside_of_classes(tmp_path: Path) -> None:
    for name, shade in (("cat", 0), ("dog", 1)):
        picture(tmp_path / name / "train" / "0.png", 50 + shade)
        picture(tmp_path / name / "test" / "0.png", 200)
    with pytest.raises(DataError, match="parts"):
        load(tmp_path)
    found = load(tmp_path, "train")
    assert found.class_names == ("cat", "dog")
    assert found.images[:, 0, 0, 0].tolist() == [50, 51]


def test_a_folder_of_two_parts_is_no_class_either(tmp_path: Path) -> None:
    tree(tmp_path, train="train_val")
    tree(tmp_path, test="other")
    with pytest.raises(DataError, match=r"look like parts.*\(train_val\)"):
        load(tmp_path)
    with pytest.raises(DataError, match="no train part"):
        load(tmp_path, "train")


def test_several_configurations_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, train="cropped/train")
    tree(tmp_path, train="full/train")
    with pytest.raises(DataError, match="several train parts, cropped/train and full/train"):
        load(tmp_path, "train")


def test_parts_in_the_names_of_pictures(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"train_{number}.png", 50)
        picture(tmp_path / f"{number}-TEST.png", 200)
    with pytest.raises(DataError, match="speak of test and train"):
        load(tmp_path)
    assert (load(tmp_path, "test").images == 200).all()
    picture(tmp_path / "other.png", 90)
    (tmp_path / "0-TEST.png").rename(tmp_path / "train_9.png")
    with pytest.raises(DataError, match="speak of"):
        load(tmp_path)


def test_one_and_the_same_word_in_all_names_is_told(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"scan_test_{number}.png", 200)
    found = load(tmp_path)
    assert found.inventory is not None
    assert (found.num_images, found.inventory.part) == (3, "test")


def test_a_name_decides_about_its_own_picture_alone_under_privacy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png", 50)
    picture(tmp_path / "test_1.png", 200)
    found = load(tmp_path, each_alone=True)
    assert (found.images == 50).all()
    assert found.num_images == 3
    assert "test_1.png is named as one of the test images" in caplog.text


def test_folder_and_file_that_disagree_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, train="train", test="test")
    picture(tmp_path / "train" / "cat" / "test_7.png", 200)
    with pytest.raises(DataError, match=r"test_7.*speaks of test and train"):
        load(tmp_path, "train")
    found = load(tmp_path, "train", each_alone=True)
    assert (found.images == 50).all()
    assert found.inventory is not None
    assert [str(entry) for entry in found.inventory.passed_over] == [
        "1 left out (train/cat/test_7.png)"
    ]


def test_a_picture_of_a_part_outside_of_its_folder_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, test="my_test")
    picture(tmp_path / "cat" / "test_1.png", 200)
    with pytest.raises(DataError, match=r"test_1\.png is named as one .* outside of .*my_test"):
        load(tmp_path, "test")
    assert load(tmp_path, "test", each_alone=True).num_images == 4


def test_the_setting_takes_the_parts_and_says_so_where_the_scheme_is_meant() -> None:
    assert DataConfig(part="val").part == "validation"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"set data\.part"):
        DataConfig(split="train")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="part must be one of"):
        load_images("npz", path="x.npz", cache_dir=Path(), rules=ReadingRules(part="dev"))
    with pytest.raises(ConfigError, match="part and window are for"):
        load_images("digits", cache_dir=Path(), rules=ReadingRules(part="test"))


def test_settings_of_before_keep_their_bytes() -> None:
    assert not {"part", "window", "strict"} & set(DataConfig().model_dump())
    written = DataConfig(part="test", window=(0, 4095), strict=True).model_dump(mode="json")
    assert DataConfig.model_validate(written).window == (0, 4095)


@pytest.mark.parametrize(
    "names", [("tr", "te"), ("Tr", "Ts"), ("fold1", "fold2"), ("split 0", "split 1")]
)
def test_short_names_and_folds_are_parts_together(tmp_path: Path, names: tuple[str, str]) -> None:
    for shade, name in zip((50, 200), names, strict=True):
        picture(tmp_path / name / "0.png", shade)
    with pytest.raises(DataError, match="parts or folds of a data set, not classes"):
        load(tmp_path)
    assert load(tmp_path, "all").class_names == tuple(sorted(names))
    (tmp_path / names[1]).rename(tmp_path / "other")
    assert load(tmp_path).class_names == tuple(sorted(("other", names[0])))
