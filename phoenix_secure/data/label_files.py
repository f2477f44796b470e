"""Tables beside pictures (metadata.csv, metadata.jsonl, labels.csv, ...): labels, and people."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.groups import GroupRule
from phoenix_secure.data.inspection import Inspection
from phoenix_secure.data.labels import (
    class_name,
    numbered,
    pick_label,
    require_few,
    require_unlike,
)
from phoenix_secure.data.masks import file_stem
from phoenix_secure.data.parts import parts_of_columns
from phoenix_secure.errors import DataError

__all__ = ["Table", "is_label_file", "people_of_table", "read_label_file", "read_tables"]

_FILE_NAMES = ("file_name", "filename", "file", "image", "img", "path", "image_path", "name", "id")
_SUFFIXES = (".csv", ".tsv", ".jsonl")
# How programs write that there is no value; a class may be called so, too.
_MISSING = frozenset(("none", "null", "n/a", "na", "<na>", "nat", "#n/a", "-"))
_MAX_BYTES = 256 * 2**20

Row = dict[str, Any]
FileLabels = tuple[npt.NDArray[np.int64], tuple[str, ...], str]


def is_label_file(file: Path) -> bool:
    """Whether a file is of a kind that may hold labels."""
    return file.suffix.lower() in _SUFFIXES


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table whose rows may speak of pictures; ``file_column`` is None where none names files."""

    file: Path
    rows: list[Row]
    columns: tuple[str, ...]
    file_column: str | None

    def column(self, name: str) -> str | None:
        """The column called ``name``, in any case where none is called exactly so."""
        if name in self.columns:
            return name
        alike = [each for each in self.columns if each.lower() == name.lower()]
        return alike[0] if len(alike) == 1 else None


def read_tables(files: Sequence[Path]) -> list[Table]:
    """The tables in ``files``.

    Raises:     DataError for one that cannot be read.
    """
    tables = []
    for file in files:
        rows = _rows(file)
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        by_lower = {name.lower(): name for name in columns}
        file_column = next((by_lower[name] for name in _FILE_NAMES if name in by_lower), None)
        tables.append(Table(file=file, rows=rows, columns=columns, file_column=file_column))
    return tables


def people_of_table(
    tables: Sequence[Table], pictures: Sequence[Path], *, root: Path, rule: GroupRule
) -> tuple[Path, list[Any]]:
    """The table with the column that ``rule`` names, and its value for each picture; None where no
    row names the picture, or two rows disagree.

    Each picture finds its own row, by its path below ``root`` with or without suffix: no picture
    decides about another's.

    Raises:     DataError where no table or several have the column.
    """
    found = [
        (table, table.file_column, column)
        for table in tables
        if (column := table.column(rule.name)) is not None and table.file_column is not None
    ]
    if len(found) != 1:
        seen = "; ".join(f"{t.file.name}: {', '.join(t.columns)}" for t in tables) or "no table"
        what = f"{len(found)} tables" if found else "no table"
        raise DataError(
            f"{root} has {what} with a column of file names and one named {rule.name}, as "
            f"data.group {rule} needs (found {seen[:300]})"
        )
    table, file_column, column = found[0]
    people: dict[str, Any] = {}
    for row in table.rows:
        name, value = _named(row, file_column), row.get(column)
        people[name] = value if people.setdefault(name, value) == value else None
    values = []
    for picture in pictures:
        whole, stem = _keys(picture, root=root)
        named = people.get(whole)
        values.append(people.get(stem) if named is None else named)
    return table.file, values


def read_label_file(
    tables: Sequence[Table],
    pictures: Sequence[Path],
    *,
    inspection: Inspection,
    of_people: Path | None = None,
) -> FileLabels | None:
    """The labels of ``pictures`` from the one of ``tables`` that has them, and its words.

    A file has labels when one column names files and one is called as ``labels.pick_label`` knows.
    Values are class numbers, or names, which are numbered in sorted order.

    Returns:    None where no file has labels; each file that is not used is named, but for the one
                ``of_people``.
    Raises:     DataError for two files with labels, and for pictures without a label or with two.
    """
    usable = []
    for table in tables:
        file, rows, file_column = table.file, table.rows, table.file_column
        rule = inspection.rules.group
        of_person = None if rule is None else table.column(rule.name)
        label_column, unused = pick_label(name for name in table.columns if name != of_person)
        if file_column is not None and label_column is not None:
            usable.append((file, rows, file_column, label_column, unused))
        elif file != of_people:
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
    if inspection.rules.part is None:
        columns = {name: [row.get(name) for row in rows] for row in rows[:1] for name in row}
        for name, (*some, last) in parts_of_columns(columns).items():
            raise DataError(
                f"column {name} of {file} says which pictures are {', '.join(some)} and {last} "
                "ones: move those of one part into a folder of their own, or set data.part to all"
            )
    values = _matched(rows, file_column, label_column, pictures, file=file, inspection=inspection)
    labels, names = _as_classes(values, where=f"column {label_column} of {file}")
    for name in names:
        if name.lower() in _MISSING:
            inspection.note("labels that look like missing ones count as classes", name)
    return labels, names, f"column {label_column} of {file.name}"


def _rows(file: Path) -> list[Row]:
    if file.stat().st_size > _MAX_BYTES:
        raise DataError(f"{file} is too large for a file of labels: move it away")
    try:
        text = _text(file)
        if file.suffix.lower() == ".jsonl":
            return [
                _object(line, where=f"line {number} of {file}")
                for number, line in enumerate(text.split("\n"), start=1)
                if line.strip()
            ]
        delimiter, text = _delimited(text)
        lines = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
        )
        columns = [name.strip() for name in next(lines, [])]
        _require_once([name for name in columns if name], where=f"the first line of {file}")
        rows = []
        for fields in lines:
            if len(fields) > len(columns):
                raise DataError(
                    f"{file} has {len(fields)} fields in line {lines.line_num}, and names for "
                    f"{len(columns)} columns: put text that holds a {delimiter!r} in quotes"
                )
            if fields:
                rows.append(dict(zip(columns, fields, strict=False)))
        return rows
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError(
            f"{file} cannot be read as a table ({type(error).__name__}): repair it, or move it away"
        ) from error


def _text(file: Path) -> str:
    content = file.read_bytes()
    # As spreadsheets write "Unicode text".
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig")


def _delimited(text: str) -> tuple[str, str]:
    """What stands between the columns, by the first line, and the text without a line sep=;."""
    stated = re.match(r"sep=(.)\r?\n", text)
    if stated:
        return stated[1], text[stated.end() :]
    first = text.partition("\n")[0]
    return max(",;\t|", key=first.count), text


def _object(line: str, *, where: str) -> Row:
    """One row of a .jsonl file.

    Raises:     DataError for anything but an object whose keys differ; ValueError for no JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> Row:
        _require_once([name for name, _ in pairs], where=where)
        return dict(pairs)

    row = json.loads(line, object_pairs_hook=once)
    if not isinstance(row, dict):
        raise DataError(f"{where} is no object {{...}}: repair it, or remove it")
    return row


def _require_once(names: Sequence[str], *, where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where} names {name[:50]!r} twice: keep one of the two")
        seen.add(name)


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
        for key in set(_keys(picture, root=file.parent)):
            # A stem that two pictures share names neither.
            place[key] = -1 if key in place else number
    values: list[Any] = [None] * len(pictures)
    for row in rows:
        named = _named(row, file_column)
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


def _named(row: Row, file_column: str) -> str:
    named = unicodedata.normalize("NFC", str(row.get(file_column)).strip())
    return named.replace("\\", "/").removeprefix("./")


def _keys(picture: Path, *, root: Path) -> tuple[str, str]:
    """How a row may name a picture: with its suffix or without, letters as NFC or NFD."""
    relative = picture.relative_to(root)
    whole, stem = (
        unicodedata.normalize("NFC", str(each))
        for each in (relative, relative.with_name(file_stem(relative)))
    )
    return whole, stem


def _told(value: Any) -> bool:
    return value is not None and str(value).strip() != ""


def _as_classes(values: list[Any], *, where: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    texts = [str(value).strip() for value in values]
    if all(len(text) < 19 and text.isdecimal() and text == str(int(text)) for text in texts):
        return numbered(np.array([int(text) for text in texts]), names=None, where=where)
    if any(not isinstance(value, str) for value in values):
        raise DataError(f"{where} must hold one class number (0, 1, 2, ...) or name per picture")
    odd = next((text for text in texts if _is_number(text)), None)
    if odd is not None:
        raise DataError(
            f"{where} must hold one class number (0, 1, 2, ...) per picture, got {odd[:20]!r}"
        )
    names = sorted({class_name(text) for text in texts})
    require_few(len(names), where=where)
    require_unlike(names, where=where, fix="spell them alike, or use numbers")
    number = {name: place for place, name in enumerate(names)}
    return np.array([number[class_name(text)] for text in texts]), tuple(names)


def _is_number(text: str) -> bool:
    """Whether ``text`` is any number, such as -1, 1.0, 1e3 or nan."""
    try:
        float(text)
    except ValueError:
        return False
    return True
