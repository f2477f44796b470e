from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.errors import DataError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What HF_HUB_OFFLINE=1 sets at start-up: no test here may ask the hub."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_plain(
    path: Path, image_set: ImageSet, *, image: str = "image", label: str = "label"
) -> None:
    """A parquet file as any tool writes it: a struct of bytes and path, and integers."""
    assert image_set.labels is not None
    rows = [{"bytes": png(picture[0]), "path": None} for picture in image_set.images]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({image: rows, label: image_set.labels}), path)


def load(folder: Path, cache_dir: Path, **settings: Any) -> ImageSet:
    return load_images("huggingface", path=str(folder), cache_dir=cache_dir, **settings)


@pytest.fixture
def folder(tmp_path: Path, digits: ImageSet) -> Path:
    root = tmp_path / "mine"
    write_plain(root / "train-00000-of-00001.parquet", digits.take(np.arange(60)))
    write_plain(root / "test-00000-of-00001.parquet", digits.take(np.arange(60, 90)))
    return root


def test_a_local_folder_of_parquet_is_read_offline(
    folder: Path, tmp_path: Path, digits: ImageSet
) -> None:
    train = load(folder, tmp_path / "cache")
    assert np.array_equal(train.images, digits.images[:60])
    assert digits.labels is not None
    assert np.array_equal(train.labels, digits.labels[:60])
    test = load_test_images("huggingface", path=str(folder), cache_dir=tmp_path / "cache")
    assert np.array_equal(test.images, digits.images[60:90])
    assert str(folder) in train.source


def test_no_copy_of_local_images_is_left_behind(folder: Path, tmp_path: Path) -> None:
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    load(folder, tmp_path / "cache")
    after = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before


def test_files_that_datasets_writes_keep_their_class_names(
    tmp_path: Path, digits: ImageSet
) -> None:
    assert digits.labels is not None
    names = [f"digit {i}" for i in range(10)]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    table = datasets.Dataset.from_dict(
        {
            "img": [Image.fromarray(picture[0]) for picture in digits.images[:40]],
            "label": digits.labels[:40].tolist(),
        },
        features=features,
    )
    (tmp_path / "hub").mkdir()
    table.to_parquet(tmp_path / "hub" / "train.parquet")
    loaded = load(tmp_path / "hub", tmp_path / "cache")
    assert loaded.class_names == tuple(names)
    assert np.array_equal(loaded.images, digits.images[:40])


def test_settings_apply(folder: Path, tmp_path: Path) -> None:
    loaded = load(folder, tmp_path, image_size=12, channels=3, max_images=20)
    assert loaded.images.shape == (20, 3, 12, 12)
    assert loaded.labels is not None
    assert np.bincount(loaded.labels).tolist() == [2] * 10


def test_a_missing_split_lists_those_that_are_there(tmp_path: Path, digits: ImageSet) -> None:
    write_plain(tmp_path / "only" / "train.parquet", digits.take(np.arange(5)))
    with pytest.raises(DataError, match="no test split, only train"):
        load_test_images("huggingface", path=str(tmp_path / "only"), cache_dir=tmp_path)


def test_a_missing_image_column_lists_those_that_are_there(
    tmp_path: Path, digits: ImageSet
) -> None:
    write_plain(tmp_path / "x" / "train.parquet", digits.take(np.arange(5)), image="scan")
    with pytest.raises(DataError, match="image or img or images, only scan, label"):
        load(tmp_path / "x", tmp_path)


def test_images_without_labels_are_welcome(tmp_path: Path, digits: ImageSet) -> None:
    write_plain(tmp_path / "x" / "train.parquet", digits.take(np.arange(5)), label="age")
    assert load(tmp_path / "x", tmp_path).labels is None


def test_labels_that_are_no_class_numbers_are_refused(tmp_path: Path, digits: ImageSet) -> None:
    rows = [{"bytes": png(picture[0]), "path": None} for picture in digits.images[:2]]
    ragged: list[list[Any]] = [[[0], [1, 0]], [True, False], [{"a": 0}, {"a": 1}]]
    plain = (["cat", "dog"], [0.5, 1.5], [[0, 1], [1, 0]], [-1, 0], [None, 1])
    for i, labels in enumerate((*plain, *ragged)):
        root = tmp_path / str(i)
        root.mkdir()
        pq.write_table(pa.table({"image": rows, "label": labels}), root / "train.parquet")
        with pytest.raises(DataError, match="one class number"):
            load(root, tmp_path)


def test_a_damaged_picture_in_a_row_is_named(tmp_path: Path, digits: ImageSet) -> None:
    whole = png(digits.images[0, 0])
    for i, content in enumerate((whole[:40], b"", None)):
        root = tmp_path / str(i)
        root.mkdir()
        rows = [{"bytes": whole, "path": "a"}, {"bytes": content, "path": "b"}]
        pq.write_table(pa.table({"image": rows}), root / "train.parquet")
        with pytest.raises(DataError, match="train image 1"):
            load(root, tmp_path)


def test_a_row_cannot_name_a_file_outside(tmp_path: Path, digits: ImageSet) -> None:
    """A path in a parquet row would let a data set read any file of the site's machine."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(digits.images[0, 0]))
    (tmp_path / "x").mkdir()
    schema = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": None, "path": str(secret)}], type=schema)
    pq.write_table(pa.table({"image": rows}), tmp_path / "x" / "train.parquet")
    with pytest.raises(DataError, match="holds no picture"):
        load(tmp_path / "x", tmp_path)


@pytest.mark.parametrize("column", [[[1, 2], [3, 4]], [5, 6], ["/etc/hosts", "b.png"]])
def test_columns_without_encoded_pictures_are_refused(tmp_path: Path, column: list[Any]) -> None:
    (tmp_path / "x").mkdir()
    pq.write_table(pa.table({"image": column}), tmp_path / "x" / "train.parquet")
    with pytest.raises(DataError, match="does not hold encoded pictures"):
        load(tmp_path / "x", tmp_path)


def test_truncated_parquet_is_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"cannot read.*damaged") as caught:
        load(folder, tmp_path)
    assert "\n" not in str(caught.value)


def test_columns_that_differ_between_files_are_refused(folder: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [1, 2]}), folder / "train-00001.parquet")
    with pytest.raises(DataError, match="same columns"):
        load(folder, tmp_path)


def test_parts_are_told_by_folder_names_too(tmp_path: Path, digits: ImageSet) -> None:
    write_plain(tmp_path / "[x]" / "train" / "0000.parquet", digits.take(np.arange(5)))
    write_plain(tmp_path / "[x]" / "test" / "0000.parquet", digits.take(np.arange(5, 7)))
    assert load(tmp_path / "[x]", tmp_path).num_images == 5
    test = load_test_images("huggingface", path=str(tmp_path / "[x]"), cache_dir=tmp_path)
    assert test.num_images == 2
    write_plain(tmp_path / "plain" / "scans.parquet", digits.take(np.arange(5)))
    assert load(tmp_path / "plain", tmp_path).num_images == 5


def test_a_readme_cannot_send_us_to_other_files(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.parquet"
    elsewhere.write_bytes(b"must not be read")
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files: {elsewhere}\n---\n"
    )
    assert load(folder, tmp_path).num_images == 60


@pytest.mark.parametrize(
    "path", ["/data/mistyped", "./x", "~/x", "a/b/c", "C:\\x", "clinic/patients", "clinic_scans"]
)
def test_a_mistyped_folder_is_never_sent_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def ask(*arguments: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(datasets, "get_dataset_split_names", ask)
    with pytest.raises(DataError, match="no folder at"):
        load_images("huggingface", path=path, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("hf:///data/patients", "is no data set of the hub"),
        ("hf://a/b/c", "is no data set of the hub"),
        ("hf://../x", "is no data set of the hub"),
        ("hf://", "is no data set of the hub"),
        ("hf://clinic/patients", "is a folder here, too"),
    ],
)
def test_what_is_no_name_of_the_hub_is_never_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: str
) -> None:
    (tmp_path / "clinic" / "patients").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words):
        load_images("huggingface", path=reference, cache_dir=tmp_path)


def test_a_folder_without_parquet_points_to_image_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image-folder"):
        load(tmp_path, tmp_path)


def test_a_data_set_that_cannot_be_reached_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot load nobody/nothing.*local folder") as caught:
        load_images("huggingface", path="hf://nobody/nothing", cache_dir=tmp_path)
    assert "\n" not in str(caught.value)
