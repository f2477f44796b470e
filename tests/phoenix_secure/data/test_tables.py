"""Folders of parquet and arrow files: one part of one configuration, or a question."""

from __future__ import annotations

import io
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.errors import DataError

TRAIN, TEST = 50, 200
NUM = 4


def rows(shade: int) -> list[dict[str, bytes | None]]:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(buffer, "PNG")
    return [{"bytes": buffer.getvalue(), "path": None}] * NUM


def write(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": rows(shade), "label": [0, 1] * (NUM // 2)}), path)


def load(folder: Path, part: str | None = None, *, strict: bool = False) -> ImageSet:
    rules = ReadingRules(part=part, strict=strict)
    return load_images("huggingface", path=str(folder), cache_dir=folder, rules=rules)


PAIRS = [
    ("mnist-train.parquet", "mnist-test.parquet"),
    ("beans-train-00000-of-00001.parquet", "beans-test-00000-of-00001.parquet"),
    ("Train.parquet", "Test.parquet"),
    ("train/shard0/a.parquet", "test/shard0/a.parquet"),
    ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
    ("x/TRAIN/0.PARQUET", "x/TEST/0.PARQUET"),
    ("trainset_1.parquet", "testset_1.parquet"),
    ("train.parquet", ".cache/train.parquet"),
]


@pytest.mark.parametrize(("train", "test"), PAIRS)
def test_the_training_part_alone_is_read(tmp_path: Path, train: str, test: str) -> None:
    write(tmp_path / train, TRAIN)
    write(tmp_path / test, TEST)
    for part in (None, "train"):
        found = load(tmp_path, part)
        assert found.num_images == NUM
        assert (found.images == TRAIN).all()
    if not test.startswith("."):
        held = load_test_images("huggingface", path=str(tmp_path), cache_dir=tmp_path)
        assert (held.images == TEST).all()
        assert (load(tmp_path, "test").images == TEST).all()
        assert load(tmp_path, "all").num_images == 2 * NUM
        assert found.inventory is not None
        assert found.inventory.not_chosen[0].first_names == (test,)
        assert (
            load(tmp_path, "train", strict=True).num_images == NUM
        )  # a choice passes nothing over


@pytest.mark.parametrize("name", ["dev.parquet", "my-val.parquet", "validation/0.parquet"])
def test_every_word_for_validation_is_one(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train.parquet", TRAIN)
    write(tmp_path / name, TEST)
    assert (load(tmp_path).images == TRAIN).all()
    assert (load(tmp_path, "validation").images == TEST).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cropped/train/0000.parquet", "full/train/0000.parquet"),
        ("train/cropped/0000.parquet", "train/full/0000.parquet"),
        ("cropped-train.parquet", "full-train.parquet"),
        ("train_cropped.parquet", "train_full.parquet"),
        ("cats.parquet", "dogs.parquet"),
        ("a1/images.parquet", "other/images.parquet"),
    ],
)
def test_several_configurations_are_refused(tmp_path: Path, one: str, other: str) -> None:
    write(tmp_path / one, TRAIN)
    write(tmp_path / other, TEST)
    with pytest.raises(DataError, match="several sets or configurations") as caught:
        load(tmp_path)
    assert one in str(caught.value)
    assert other in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        ["train/0000.parquet", "train/0001.parquet"],
        ["year=2020/a.parquet", "year=2021/b.parquet"],
        [
            "part-00000-0b8e9d4e-1c6b-4f39-8a39-8c1ff2c0a111-c000.parquet",
            "part-00001-1d8e9d4e-1c6b-4f39-8a39-8c1ff2c0a222-c000.parquet",
        ],
        ["shard1/a.parquet", "shard2/b.parquet"],
    ],
)
def test_shards_of_one_set_are_read_together(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path / name, TRAIN)
    assert load(tmp_path).num_images == 2 * NUM


def test_a_file_of_no_part_beside_parts_is_a_question(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", TRAIN)
    write(tmp_path / "extra.parquet", TEST)
    with pytest.raises(DataError, match=r"files of train, and extra\.parquet.*data\.part"):
        load(tmp_path)
    found = load(tmp_path, "train")
    assert (found.images == TRAIN).all()
    assert found.inventory is not None
    assert found.inventory.passed_over[0].first_names == ("extra.parquet",)
    with pytest.raises(DataError, match=r"strict.*extra\.parquet"):
        load(tmp_path, "train", strict=True)


def test_names_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train" / "x" / "test.parquet", TRAIN)
    with pytest.raises(DataError, match="speaks of test and train"):
        load(tmp_path)


def test_arrow_files_as_save_to_disk_writes_them(tmp_path: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    for part, shade in (("train", TRAIN), ("test", TEST)):
        made = datasets.Dataset.from_dict(
            {"image": rows(shade), "label": [0, 1] * (NUM // 2)}, features=features
        )
        made.save_to_disk(tmp_path / part)
    found = load(tmp_path)
    assert (found.images == TRAIN).all()
    assert found.class_names == ("a", "b")


def test_one_part_in_two_formats_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", TRAIN)
    with pa.OSFile(str(tmp_path / "train.arrow"), "wb") as sink:
        made = pq.read_table(tmp_path / "train.parquet")
        with pa.ipc.new_stream(sink, made.schema) as stream:
            stream.write_table(made)
    with pytest.raises(DataError, match="parquet and arrow"):
        load(tmp_path)


def test_a_stream_that_was_cut_off_behind_a_batch_is_refused(tmp_path: Path) -> None:
    made = pa.table({"image": rows(TRAIN), "label": [0, 1] * (NUM // 2)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.schema) as stream:
        stream.write_table(made, max_chunksize=1)
    content = sink.getvalue().to_pybytes()
    (tmp_path / "train.arrow").write_bytes(content)
    assert load(tmp_path).num_images == NUM
    # Each message begins with this mark: what ends before one reads well, with fewer rows.
    last = content[:-8].rindex(b"\xff\xff\xff\xff")
    for end in (last, len(content) - 8):
        (tmp_path / "train.arrow").write_bytes(content[:end])
        with pytest.raises(DataError, match="damaged"):
            load(tmp_path)


def test_shards_that_number_the_classes_otherwise_are_refused(tmp_path: Path) -> None:
    for number, names in enumerate((["a", "b"], ["b", "a"])):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
        )
        made = {"image": rows(TRAIN), "label": [0, 1] * (NUM // 2)}
        made = datasets.Dataset.from_dict(made, features=features)
        made.to_parquet(tmp_path / f"train-{number}.parquet")
    with pytest.raises(DataError, match=r"train-0\.parquet and .*class names"):
        load(tmp_path)


@pytest.mark.parametrize("column", ["split", "Subset"])
def test_a_column_tells_the_part_of_each_row(tmp_path: Path, column: str) -> None:
    columns = {"image": [*rows(TRAIN), *rows(TEST)], "label": [0, 1] * NUM}
    columns[column] = ["Train"] * NUM + ["test"] * NUM
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    with pytest.raises(DataError, match=rf"column {column} .*data\.part to test or train"):
        load(tmp_path)
    assert (load(tmp_path, "train").images == TRAIN).all()
    assert load(tmp_path, "all").num_images == 2 * NUM
    # Where no image may decide about another, each row for itself.
    alone = load_images(
        "huggingface",
        path=str(tmp_path),
        image_size=8,
        channels=1,
        cache_dir=tmp_path,
        rules=ReadingRules(each_alone=True),
    )
    assert (alone.images == TRAIN).all()


def test_a_file_in_place_of_its_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", TRAIN)
    with pytest.raises(DataError, match=r"train\.parquet is a file: set path to the folder"):
        load(tmp_path / "train.parquet")


def test_other_files_are_told(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", TRAIN)
    (tmp_path / "README.md").write_text("x")
    found = load(tmp_path)
    assert found.inventory is not None
    assert str(found.inventory.passed_over[0]) == "1 no table (.md) (README.md)"
