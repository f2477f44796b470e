"""Labels, and people, out of tables beside pictures."""

from __future__ import annotations

from collections.abc import Sequence
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
from phoenix_secure.data.picture_tables import Row, Table, named_file, names_of_picture
from phoenix_secure.errors import DataError

__all__ = ["FileLabels", "people_of_table", "read_label_file"]

# How programs write that there is no value; a class may be called so, too.
_MISSING = frozenset(("none", "null", "n/a", "na", "<na>", "nat", "#n/a", "-"))

FileLabels = tuple[npt.NDArray[np.int64], tuple[str, ...], str]


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
        name, value = named_file(row, file_column), row.get(column)
        people[name] = value if people.setdefault(name, value) == value else None
    values = []
    for picture in pictures:
        whole, stem = names_of_picture(picture, root=root)
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
    values = _matched(rows, file_column, label_column, pictures, file=file, inspection=inspection)
    labels, names = _as_classes(values, where=f"column {label_column} of {file}")
    for name in names:
        if name.lower() in _MISSING:
            inspection.note("labels that look like missing ones count as classes", name)
    return labels, names, f"column {label_column} of {file.name}"


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
        for key in set(names_of_picture(picture, root=file.parent)):
            # A stem that two pictures share names neither.
            place[key] = -1 if key in place else number
    values: list[Any] = [None] * len(pictures)
    for row in rows:
        named = named_file(row, file_column)
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
