"""Labels: found where they are, named where not used, refused where they are identifiers."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.labels import MAX_CLASSES, numbered
from phoenix_secure.data.picture_tables import names_of_picture
from phoenix_secure.data.sources import load_images
from phoenix_secure.errors import DataError

SHADES = (50, 200)
NUM = 10


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """Ten loose pictures; those of an odd number are bright."""
    for number in range(NUM):
        (tmp_path / f"{number}.png").write_bytes(png(SHADES[number % 2]))
    return tmp_path


def load(path: Path, name: str = "image-folder", *, each_alone: bool = False) -> ImageSet:
    form: dict[str, Any] = {"image_size": 8, "channels": 1} if each_alone else {}
    rules = ReadingRules(each_alone=each_alone)
    return load_images(name, path=str(path), cache_dir=path, rules=rules, **form)


def follow_the_pixels(found: ImageSet) -> bool:
    assert found.labels is not None
    return found.labels.tolist() == [SHADES.index(v) for v in found.images[:, 0, 0, 0].tolist()]


def told(found: ImageSet) -> str:
    assert found.inventory is not None
    entries = (*found.inventory.passed_over, *found.inventory.notes)
    return f"{found.inventory.labels_from}; {'; '.join(map(str, entries))}"


ROWS = [(f"{number}.png", number % 2) for number in reversed(range(NUM))]


def table(path: Path, names: tuple[str, str], rows: list[tuple[Any, Any]], gap: str = ",") -> None:
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    else:
        lines = [gap.join(names), *(gap.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "file", ["metadata.jsonl", "metadata.csv", "labels.csv", "label.tsv", "x.CSV"]
)
@pytest.mark.parametrize("names", [("file_name", "label"), ("File", "Target"), ("image", "Y")])
def test_a_table_beside_loose_pictures_labels_them(
    loose: Path, file: str, names: tuple[str, str]
) -> None:
    table(loose / file, names, ROWS, "\t" if file.endswith("tsv") else ",")
    found = load(loose)
    assert follow_the_pixels(found)
    assert found.class_names == ("0", "1")
    assert file in told(found)
    assert names[1] in told(found)


def test_names_of_classes_are_numbered_by_name(loose: Path) -> None:
    table(loose / "metadata.csv", ("file_name", "label"), [(f, "ab"[label]) for f, label in ROWS])
    found = load(loose)
    assert found.class_names == ("a", "b")
    assert follow_the_pixels(found)


def test_semicolons_byte_order_marks_and_stems(loose: Path) -> None:
    lines = ["\ufefffile_name;label", *(f"{f.removesuffix('.png')};{label}" for f, label in ROWS)]
    (loose / "labels.csv").write_text("\r\n".join(lines), encoding="utf-8")
    assert follow_the_pixels(load(loose))


def test_the_layout_of_the_hub_with_one_folder(loose: Path) -> None:
    (loose / "images").mkdir()
    for file in loose.glob("*.png"):
        file.rename(loose / "images" / file.name)
    rows = [(f"images/{f}", label) for f, label in ROWS]
    table(loose / "metadata.jsonl", ("file_name", "label"), rows)
    assert follow_the_pixels(load(loose))


def test_each_part_has_its_table(loose: Path) -> None:
    for part in ("train", "test"):
        (loose / part).mkdir()
        table(loose / part / "metadata.csv", ("file_name", "label"), ROWS)
    for file in loose.glob("*.png"):
        file.rename(loose / "train" / file.name)
        (loose / "test" / file.name).write_bytes(png(9))
    rules = ReadingRules(part="train")
    found = load_images("image-folder", path=str(loose), cache_dir=loose, rules=rules)
    assert follow_the_pixels(found)


@pytest.mark.parametrize(
    ("names", "rows", "message"),
    [
        (("file_name", "label"), ROWS[1:], r"no label for 1 of 10 pictures, the first is 9\.png"),
        (("file_name", "label"), [*ROWS, ("0.png", 1)], r"gives 0\.png two labels"),
        (("file_name", "label"), [(f, 10**15 + n) for f, n in ROWS], "not identifiers"),
        (("file_name", "label"), [(f, n - 1) for f, n in ROWS], "one class number"),
        (("file_name", "label"), [(f, n / 2) for f, n in ROWS], "one class number"),
    ],
)
def test_tables_that_do_not_label_are_refused(
    loose: Path, names: tuple[str, str], rows: list[tuple[Any, Any]], message: str
) -> None:
    table(loose / "metadata.csv", names, rows)
    with pytest.raises(DataError, match=message):
        load(loose)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "file,label,label\n0.png,0,1\n", "first line .* names 'label' twice"),
        ("t.csv", "file,label\n0.png,0\na,b.png,1\n", "3 fields in line 3, .* 2 columns"),
        ("t.csv", 'file,label\n0.png,0\n1.png,"1\n2.png,0\n', "cannot be read as a table"),
        ("t.jsonl", '{"file_name": "0.png", "label": 0, "label": 1}', "line 1 .* 'label' twice"),
        ("t.jsonl", '{"file_name": "0.png", "label": 0}\n\n[1]', "line 3 .* is no object"),
    ],
)
def test_nothing_of_a_table_is_dropped_or_won_by_the_last(
    loose: Path, name: str, text: str, message: str
) -> None:
    (loose / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load(loose)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("1e0", "2e0"), "got '1e0'"),
        (("cat", "nan"), "got 'nan'"),
        (("cat", "-1.5"), "got '-1.5'"),
        (("Cat", "cat"), "'Cat' and 'cat', which differ in capitals"),
    ],
)
def test_labels_that_are_names_and_numbers_or_twice_the_same_name(
    loose: Path, labels: tuple[str, str], message: str
) -> None:
    rows = "".join(f"{file},{labels[shade]}\n" for file, shade in ROWS)
    (loose / "labels.csv").write_text(f"file,label\n{rows}")
    with pytest.raises(DataError, match=message):
        load(loose)


def test_a_class_that_is_called_like_a_missing_value_is_told(loose: Path) -> None:
    rows = "".join(f"{file},{('None', 'severe')[shade]}\n" for file, shade in ROWS)
    (loose / "labels.csv").write_text(f"file,label\n{rows}")
    found = load(loose)
    assert follow_the_pixels(found)
    assert "labels that look like missing ones count as classes: 1 (None, ...)" in told(found)


def test_a_column_that_the_first_row_lacks_is_a_column(loose: Path) -> None:
    rows = [{"file_name": file, "label": shade} for file, shade in ROWS]
    del rows[0]["label"]
    (loose / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="has no label for 1 of 10 pictures"):
        load(loose)


CSV = "file,label\n" + "".join(f"{name},{'ab'[label]}\n" for name, label in ROWS)


@pytest.mark.parametrize(
    "content",
    [
        CSV.replace(",", ", ").encode(),
        "".join(f'{line.replace(",", ", ")}"\n' for line in CSV.replace(",", ',"').splitlines())
        .replace('file, "', 'file,"')
        .encode(),
        CSV.replace(",", "\t").encode(),
        CSV.replace(",", "|").encode(),
        ("sep=;\n" + CSV.replace(",", ";")).encode(),
        CSV.encode("utf-16"),
        CSV.replace(".png", ".png  ").encode(),
    ],
    ids=["spaces", "quotes behind spaces", "tabs", "bars", "sep", "UTF-16", "padded names"],
)
def test_tables_as_programs_write_them(loose: Path, content: bytes) -> None:
    (loose / "labels.csv").write_bytes(content)
    found = load(loose)
    assert found.class_names == ("a", "b")
    assert follow_the_pixels(found)


def test_a_name_is_found_as_nfc_and_nfd_and_without_both_suffixes(tmp_path: Path) -> None:
    (tmp_path / "e\u0301.png").write_bytes(png(SHADES[0]))
    (tmp_path / "b.png").write_bytes(png(SHADES[1]))
    (tmp_path / "labels.csv").write_text("file,label\n\u00e9,0\nb.png,1\n", encoding="utf-8")
    assert follow_the_pixels(load(tmp_path))
    volume = tmp_path / "case_1.nii.gz"
    assert names_of_picture(volume, root=tmp_path) == ("case_1.nii.gz", "case_1")


def test_a_column_that_speaks_of_several_parts_is_a_question(loose: Path) -> None:
    rows = "".join(f"{name},{label},{('train', 'val')[label]}\n" for name, label in ROWS)
    (loose / "labels.csv").write_text(f"file,label,split\n{rows}")
    with pytest.raises(DataError, match=r"column split .*train and validation ones"):
        load(loose)
    rules = ReadingRules(part="all")
    found = load_images("image-folder", path=str(loose), cache_dir=loose, rules=rules)
    assert follow_the_pixels(found)


@pytest.mark.parametrize("other", ["cat\u200b", "'cat'", '"cat"'])
def test_classes_that_look_alike_are_one_class_in_two_spellings(loose: Path, other: str) -> None:
    names = ["cat", other] * (NUM // 2)
    rows = [{"file": name, "label": names[n]} for n, (name, _) in enumerate(ROWS)]
    (loose / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="differ in capitals"):
        load(loose)


def test_two_tables_are_refused(loose: Path) -> None:
    for name in ("labels.csv", "metadata.csv"):
        table(loose / name, ("file_name", "label"), ROWS)
    with pytest.raises(DataError, match=r"labels\.csv and metadata\.csv both label"):
        load(loose)


def test_a_table_without_labels_is_named(loose: Path) -> None:
    table(loose / "metadata.csv", ("file_name", "text"), ROWS)
    found = load(loose)
    assert found.labels is None
    assert "metadata.csv" in told(found)


def test_rows_without_a_picture_are_counted(loose: Path) -> None:
    table(loose / "metadata.csv", ("file_name", "label"), [*ROWS, ("x.png", 1), ("../y.png", 1)])
    assert "2 row(s) of metadata.csv that name no picture here (x.png, ../y.png)" in told(
        load(loose)
    )


def test_a_table_beside_class_folders_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(9))
    table(tmp_path / "labels.csv", ("file", "label"), ROWS)
    found = load(tmp_path)
    assert found.class_names == ("cat", "dog")
    assert "labels.csv" in told(found)


def test_no_table_is_read_where_rows_would_decide_about_classes(loose: Path) -> None:
    table(loose / "labels.csv", ("file", "label"), ROWS)
    found = load(loose, each_alone=True)
    assert found.labels is None
    assert "labels.csv" in told(found)


def parquet(folder: Path, metadata: dict[bytes, bytes] | None = None, **columns: Any) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [{"bytes": png(SHADES[number % 2]), "path": None} for number in range(NUM)]
    made = pa.table({"image": rows, **columns}).replace_schema_metadata(metadata)
    pq.write_table(made, folder / "train.parquet")
    return folder


LABELS = [number % 2 for number in range(NUM)]


@pytest.mark.parametrize(
    "column", ["label", "Labels", "fine_label", "targets", "target", "y", "Class"]
)
def test_one_column_of_labels_is_used(tmp_path: Path, column: str) -> None:
    found = load(parquet(tmp_path / "x", **{column: LABELS}), "huggingface")
    assert follow_the_pixels(found)
    assert f"column {column}" in told(found)


def test_two_columns_of_labels_are_named_and_not_guessed(tmp_path: Path) -> None:
    both = parquet(tmp_path / "x", fine_label=LABELS, coarse_label=LABELS)
    found = load(both, "huggingface")
    assert found.labels is None
    assert "not used (fine_label, coarse_label)" in told(found)
    first = load(parquet(tmp_path / "y", label=LABELS, labels=[5] * NUM), "huggingface")
    assert follow_the_pixels(first)
    assert "not used (labels)" in told(first)


def test_columns_that_hold_no_labels_are_named(tmp_path: Path) -> None:
    found = load(parquet(tmp_path / "x", age=LABELS, sex=LABELS), "huggingface")
    assert "of the columns age, sex none is known" in told(found)


@pytest.mark.parametrize("first", [20230000, 10**15, -(10**15), -1, MAX_CLASSES])
@pytest.mark.parametrize("source", ["huggingface", "npz"])
def test_identifiers_are_refused_without_memory_for_them(
    tmp_path: Path, first: int, source: str
) -> None:
    labels = np.arange(first, first + NUM)
    if source == "npz":
        path = tmp_path / "d.npz"
        np.savez(path, images=np.full((NUM, 8, 8), 200, np.uint8), labels=labels)
    else:
        path = parquet(tmp_path / "x", label=labels)
    tracemalloc.start()
    with pytest.raises(
        DataError, match=rf"labels in {first}\.\.{first + NUM - 1}.*not identifiers"
    ):
        load(path, source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_folders_of_patients_are_no_classes(tmp_path: Path) -> None:
    for number in range(MAX_CLASSES + 1):
        (tmp_path / f"P{number}").mkdir()
    (tmp_path / "P0" / "0.png").write_bytes(png(50))
    with pytest.raises(DataError, match=r"1,001 classes, at most 1,000.*identifiers"):
        load(tmp_path)


def test_names_and_numbers_that_disagree_end_in_one_line(tmp_path: Path) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["a"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    folder = parquet(tmp_path / "x", metadata=metadata, label=LABELS)
    with pytest.raises(DataError, match=r"labels in 0\.\.1, but only 1 class name") as caught:
        load(folder, "huggingface")
    assert "\n" not in str(caught.value)


def test_labels_that_count_from_one_are_told(tmp_path: Path) -> None:
    found = load(parquet(tmp_path / "x", label=[v + 1 for v in LABELS]), "huggingface")
    assert "count from 1?" in told(found)


@pytest.mark.parametrize("key", ["labels", "label", "targets", "target", "y"])
@pytest.mark.parametrize("prefix", ["", "train_"])
def test_labels_of_an_npz_by_any_known_name(tmp_path: Path, key: str, prefix: str) -> None:
    images = np.stack([np.full((8, 8), SHADES[v], np.uint8) for v in LABELS])
    for number, name in enumerate((f"{prefix}{key}", key)):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **{f"{prefix}images": images, name: LABELS})
        found = load(path, "npz")
        assert follow_the_pixels(found)
        assert f"array {name}" in told(found)


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    images = np.full((NUM, 8, 8), 200, np.uint8)
    np.savez(
        tmp_path / "d.npz", images=images, masks=images, fine_label=LABELS, coarse_label=LABELS
    )
    found = load(tmp_path / "d.npz", "npz")
    assert found.labels is None
    assert "neither images nor labels (masks)" in told(found)
    assert "look like labels, too (coarse_label, fine_label)" in told(found)


def test_numbers_become_names_up_to_the_limit() -> None:
    labels, names = numbered(np.array([MAX_CLASSES - 1]), names=None, where="x")
    assert (labels.tolist(), len(names)) == ([MAX_CLASSES - 1], MAX_CLASSES)


@pytest.mark.parametrize("kind", ["timedelta64[s]", "datetime64[s]", "bool", "float64"])
def test_an_array_of_other_than_whole_numbers_is_no_labels(tmp_path: Path, kind: str) -> None:
    images = np.full((4, 8, 8), 90, np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(4).astype(kind))
    with pytest.raises(DataError, match="expected integers"):
        load(tmp_path / "d.npz", "npz")


@pytest.mark.parametrize("name", ["\x1b[31mred", " ", "\u202eabc"])
def test_a_class_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    images = np.full((2, 8, 8), 90, np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=[0, 1], class_names=["a", name])
    with pytest.raises(DataError, match="cannot be shown") as refused:
        load(tmp_path / "d.npz", "npz")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("high", [1, 15])
def test_values_of_a_few_bits_are_told(tmp_path: Path, high: int) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) % (high + 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (note,) = inventory_notes(load(tmp_path))
    assert note.startswith(f"all images are nearly black (no pixel above {high} of 255)")
    stated = ReadingRules(window=(0, high))
    whole = load_images("image-folder", path=str(tmp_path), cache_dir=tmp_path, rules=stated)
    assert inventory_notes(whole) == ()
    assert whole.images.max() == 255


def inventory_notes(found: ImageSet) -> tuple[str, ...]:
    assert found.inventory is not None
    return found.inventory.notes
