"""Labels of loose pictures in a file beside them: metadata.csv, metadata.jsonl, labels.csv, ..."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.inspection import Inspection
from phoenix_secure.data.labels import class_name, numbered, pick_label, require_few
from phoenix_secure.errors import DataError

__all__ = ["is_label_file", "read_label_file"]

_FILE_NAMES = ("file_name", "filename", "file", "image", "img", "path", "image_path", "name", "id")
_SUFFIXES = (".csv", ".tsv", ".jsonl")
_MAX_BYTES = 256 * 2**20

Row = dict[str, Any]
FileLabels = tuple[npt.NDArray[np.int64], tuple[str, ...], str]


def is_label_file(file: Path) -> bool:
    """Whether a file is of a kind that may hold labels."""
    return file.suffix.lower() in _SUFFIXES


def read_label_file(
    candidates: Sequence[Path], pictures: Sequence[Path], *, inspection: Inspection
) -> FileLabels | None:
    """The labels of ``pictures`` from the one of ``candidates`` that has them, and its words.

    A file has labels when one column names files and one is called as ``labels.pick_label`` knows.
    Values are class numbers, or names, which are numbered in sorted order.

    Returns:    None where no file has labels; each file that is not used is named.
    Raises:     DataError for two files with labels, and for pictures without a label or with two.
    """
    usable = []
    for file in candidates:
        rows = _rows(file)
        columns = [name for name in (rows[0] if rows else {}) if isinstance(name, str)]
        by_lower = {name.lower(): name for name in columns}
        file_column = next((by_lower[name] for name in _FILE_NAMES if name in by_lower), None)
        label_column, unused = pick_label(columns)
        if file_column is not None and label_column is not None:
            usable.append((file, rows, file_column, label_column, unused))
        else:
            seen = f", only {', '.join(unused)}" if unused else ""
            inspection.pass_over(
                file.name, why=f"table(s) without one column of files and one of labels{seen}"
            )
    if not usable:
        return None
    if len(usable) > 1:
        raise DataError(
            f"{usable[0][0]} and {usable[1][0].name} both label the pictures beside them: "
            "keep one of the two"
        )
    file, rows, file_column, label_column, unused = usable[0]
    for name in unused:
        inspection.note("columns that look like labels, not used", name)
    values = _matched(rows, file_column, label_column, pictures, file=file, inspection=inspection)
    labels, names = _as_classes(values, where=f"column {label_column} of {file}")
    return labels, names, f"column {label_column} of {file.name}"


def _rows(file: Path) -> list[Row]:
    if file.stat().st_size > _MAX_BYTES:
        raise DataError(f"{file} is too large for a file of labels: move it away")
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            return [row for row in rows if isinstance(row, dict)]
        delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        if delimiter == "," and ";" in text.partition("\n")[0]:
            delimiter = ";"
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [{(k or "").strip(): v for k, v in row.items()} for row in reader]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(
            f"{file} cannot be read as a table ({type(error).__name__}): repair it, or move it away"
        ) from error


def _matched(
    rows: list[Row],
    file_column: str,
    label_column: str,
    pictures: Sequence[Path],
    *,
    file: Path,
    inspection: Inspection,
) -> list[Any]:
    """The value of each picture; rows of other files are passed over."""
    place = {}
    for number, picture in enumerate(pictures):
        relative = picture.relative_to(file.parent)
        for key in {str(relative), str(relative.with_suffix(""))}:
            # A stem that two pictures share names neither.
            place[key] = -1 if key in place else number
    values: list[Any] = [None] * len(pictures)
    for row in rows:
        named = str(row.get(file_column)).removeprefix("./").replace("\\", "/")
        number = place.get(named, -1)
        if number < 0:
            inspection.pass_over(named, why=f"row(s) of {file.name} that name no picture here")
            continue
        value = row.get(label_column)
        if values[number] is not None and values[number] != value:
            raise DataError(f"{file} gives {pictures[number].name} two labels: keep one row")
        values[number] = value
    missing = [picture for picture, value in zip(pictures, values, strict=True) if not _told(value)]
    if missing:
        raise DataError(
            f"{file} has no label for {len(missing):,} of {len(pictures):,} pictures, the first is "
            f"{missing[0].name}: add the rows, or move the file away to read without labels"
        )
    return values


def _told(value: Any) -> bool:
    return value is not None and str(value).strip() != ""


def _as_classes(values: list[Any], *, where: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    texts = [str(value).strip() for value in values]
    if all(len(text) < 19 and text.isdecimal() and text == str(int(text)) for text in texts):
        return numbered(np.array([int(text) for text in texts]), names=None, where=where)
    if any(not isinstance(value, str) for value in values):
        raise DataError(f"{where} must hold one class number (0, 1, 2, ...) or name per picture")
    if any(text.lstrip("-").replace(".", "", 1).isdecimal() for text in texts):
        raise DataError(
            f"{where} must hold one class number (0, 1, 2, ...) per picture, got {texts[0][:20]!r}"
        )
    names = sorted({class_name(text) for text in texts})
    require_few(len(names), where=where)
    number = {name: place for place, name in enumerate(names)}
    return np.array([number[class_name(text)] for text in texts]), tuple(names)
