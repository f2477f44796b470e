"""Class numbers out of whatever a set brings as labels, by one rule for all sources."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import DataError
from phoenix_secure.printed_text import without_controls, without_marks

__all__ = [
    "LABEL_NAMES",
    "MAX_CLASSES",
    "class_name",
    "folder_class",
    "numbered",
    "pick_label",
    "require_few",
    "require_unlike",
    "require_writable",
]

LABEL_NAMES = ("label", "labels")
# Read where exactly one of them is there.
_OTHER_NAMES = (
    *("fine_label", "coarse_label", "fine_labels", "coarse_labels", "target", "targets", "y"),
    *("class", "classes", "cls", "category", "class_id", "class_label", "label_id"),
)
# More are identifiers (patients, dates, rows) rather than classes, and every later step is built
# for each of them.
MAX_CLASSES = 1000


def pick_label(names: Iterable[str]) -> tuple[str | None, list[str]]:
    """The one name among ``names`` that holds labels, and others that look like labels, unused.

    Capitals make no difference. "label" and "labels" come first. Of the other names one is used
    when it is alone: of fine and coarse labels nobody but the user can choose.

    >>> pick_label(["image", "fine_label", "coarse_label"])
    (None, ['fine_label', 'coarse_label'])
    """
    present: dict[str, list[str]] = {}
    for name in names:
        present.setdefault(name.lower(), []).append(name)
    first = [name for known in LABEL_NAMES for name in present.get(known, [])]
    other = [name for known in _OTHER_NAMES for name in present.get(known, [])]
    if first:
        return first[0], [*first[1:], *other]
    if len(other) == 1:
        return other[0], []
    return None, other


def numbered(
    values: npt.NDArray[Any], *, names: Sequence[str] | None, where: str
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Integer labels (N,) as int64, with the name of each class; by default its number.

    Guarantee:  what is allocated does not depend on the size of the numbers.
    Raises:     DataError that names ``where`` for numbers below 0 or of identifiers, and for labels
                beyond the names.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= MAX_CLASSES:
        raise DataError(
            f"{where}: labels in {low}..{high}, expected 0..K-1 for K classes, at most "
            f"{MAX_CLASSES}: one class number (0, 1, 2, ...) per image, not identifiers"
        )
    if names is None:
        return values.astype(np.int64), tuple(str(label) for label in range(high + 1))
    require_few(len(names), where=where)
    if len(set(names)) < len(names):
        raise DataError(f"{where}: two classes have one name: give each class a name of its own")
    if high >= len(names):
        raise DataError(
            f"{where}: labels in {low}..{high}, but only {len(names)} class name(s): "
            "give a name to each class"
        )
    return values.astype(np.int64), tuple(names)


def require_few(num_classes: int, *, where: str) -> None:
    """Refuse more classes than ``MAX_CLASSES``.

    Raises:     DataError that names ``where``.
    """
    if num_classes > MAX_CLASSES:
        raise DataError(
            f"{where}: {num_classes:,} classes, at most {MAX_CLASSES:,}: these look like "
            "identifiers of people or files rather than classes"
        )


def require_unlike(names: Iterable[str], *, where: str, fix: str) -> None:
    """Refuse two names of classes that people, and some file systems, take for one.

    Raises:     DataError that names both.
    """
    found: dict[str, str] = {}
    for name in names:
        key = class_name(without_marks(name.casefold())).strip(" '\"")
        if key in found:
            raise DataError(
                f"{where} holds the classes {found[key]!r} and {name!r}, which differ in capitals, "
                f"spaces or encoding alone: {fix}"
            )
        found[key] = name


def require_writable(names: Iterable[str], *, where: str) -> None:
    """Refuse names of classes that a terminal, a file or a page could not show.

    Raises:     DataError that names the first.
    """
    for name in names:
        if not isinstance(name, str) or not name.strip() or without_controls(name) != name:
            wrong = "is no text" if not isinstance(name, str) else "cannot be shown"
            raise DataError(
                f"{where} has a class whose name {wrong} ({ascii(name)[:60]}): give it one of "
                "letters and digits"
            )


def folder_class(folder: Path) -> str:
    """The class that ``folder`` is named after: its bytes as UTF-8, whatever the locale says."""
    return class_name(os.fsencode(folder.name).decode("utf-8", "surrogateescape"))


def class_name(name: str) -> str:
    """A class name in one spelling: systems encode the same letters as NFC or NFD."""
    return unicodedata.normalize("NFC", name)
