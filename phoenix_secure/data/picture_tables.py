"""Tables beside pictures (metadata.csv, metadata.jsonl, labels.csv, ...), row by row."""

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

from phoenix_secure.data.masks import file_stem
from phoenix_secure.data.parts import PART_COLUMNS, part_of_name, parts_of_columns
from phoenix_secure.errors import DataError

__all__ = [
    "Row",
    "Table",
    "is_label_file",
    "named_file",
    "names_of_picture",
    "parts_of_pictures",
    "read_tables",
    "require_one_part",
]

_FILE_NAMES = ("file_name", "filename", "file", "image", "img", "path", "image_path", "name", "id")
_SUFFIXES = (".csv", ".tsv", ".jsonl")
_MAX_BYTES = 256 * 2**20

Row = dict[str, Any]


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


def named_file(row: Row, file_column: str) -> str:
    """The picture that a row names, its letters as NFC."""
    named = unicodedata.normalize("NFC", str(row.get(file_column)).strip())
    return named.replace("\\", "/").removeprefix("./")


def names_of_picture(picture: Path, *, root: Path) -> tuple[str, str]:
    """How a row may name a picture: with its suffix or without, letters as NFC or NFD."""
    relative = picture.relative_to(root)
    whole, stem = (
        unicodedata.normalize("NFC", str(each))
        for each in (relative, relative.with_name(file_stem(relative)))
    )
    return whole, stem


def require_one_part(tables: Sequence[Table]) -> None:
    """Refuse tables of pictures that say of several parts which pictures are theirs.

    Raises:     DataError that names the column.
    """
    for table in tables:
        if table.file_column is None:
            continue
        columns = {name: [row.get(name) for row in table.rows] for name in table.columns}
        for name, (*some, last) in parts_of_columns(columns).items():
            raise DataError(
                f"column {name} of {table.file} says which pictures are {', '.join(some)} and "
                f"{last} ones: move those of one part into a folder of their own, or set data.part "
                "to all"
            )


def parts_of_pictures(
    tables: Sequence[Table], pictures: Sequence[Path], *, root: Path
) -> list[str | None]:
    """The part that the row of each picture speaks of, if any: each for itself."""
    found: dict[str, str] = {}
    for table in tables:
        columns = [name for name in table.columns if name.lower() in PART_COLUMNS]
        for row in table.rows if table.file_column is not None and columns else ():
            part = part_of_name(str(row.get(columns[0])))
            if part is not None:
                found[named_file(row, str(table.file_column))] = part
    return [
        next((found[k] for k in names_of_picture(file, root=root) if k in found), None)
        for file in pictures
    ]
