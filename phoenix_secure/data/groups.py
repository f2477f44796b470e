"""Whose image it is: identifiers of people become numbers where they are read.

    number(id) = first 63 bits of HMAC-SHA256(key, label | spelled_alike(id))

under the site's split key (``keyed_split``): one person under two spellings has one number, at one
site and at two. The identifiers themselves go no further: not into the
image set, the run folder, the log, or a message.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.config.images import group_form
from phoenix_secure.data.parts import part_of_name
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.printed_text import without_marks

__all__ = [
    "GroupKind",
    "GroupRule",
    "Spellings",
    "folder_person",
    "group_number",
    "majority",
    "next_group",
    "of_their_own",
    "person",
    "spelled_alike",
]

Groups = npt.NDArray[np.int64]

_LABEL = b"phoenix-secure/group/v1:"
_SHORTENED = re.compile(r"\d+([.,]\d+)?E\+\d+")
_QUOTES = "\"'`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
# What tables say where nobody is named: as one person, all those would be.
_NOBODY = frozenset(("", "nan", "none", "null", "na", "n/a", "nat", "<na>", "?", "-"))


class GroupKind(StrEnum):
    """Where a set says whose image it is."""

    FOLDER = "folder"  # the folder of this level, counted from the folders of the classes
    COLUMN = "column"  # of parquet files, or of one table beside the pictures
    ARRAY = "array"  # of an .npz file
    DICOM = "dicom"  # PatientID of each file
    FILE = "file"  # each file is one person's: volumes, series of frames


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRule:
    """``data.group``, taken apart, and the 32 secret bytes that numbers follow from."""

    kind: GroupKind
    name: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != 32:
            raise ValueError("expected a key of 32 bytes")

    @classmethod
    def of(cls, text: str, *, key: bytes) -> GroupRule:
        """The rule that ``data.group`` states, such as folder:2 or column:patient_id.

        Raises:     ConfigError for other text.
        """
        try:
            kind, _, name = group_form(text).partition(":")
        except ValueError as error:
            raise ConfigError(f"data.{error}, got {text[:60]!r}") from None
        return cls(kind=GroupKind(kind), name=name, key=key)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    def number(self, identifier: str) -> int:
        """The number of one person."""
        return group_number(identifier, key=self.key)

    def number_of_file(self, content: bytes) -> int:
        """The number of the person whom a file shows that names nobody."""
        return _number(hashlib.sha256(content).hexdigest(), key=self.key)


def group_number(identifier: str, *, key: bytes) -> int:
    """The number of the person ``identifier`` names, in whatever spelling: 0..2^63 - 1.

    Guarantee:  equal identifiers have equal numbers under one key, whatever else is in the set;
                without the key, nobody learns an identifier from its number by trying.

    >>> group_number("P007", key=bytes(32)) == group_number("p 7", key=bytes(32))
    True
    """
    return _number(spelled_alike(identifier), key=key)


def _number(text: str, *, key: bytes) -> int:
    digest = hmac.digest(key, _LABEL + text.encode(), hashlib.sha256)
    return int.from_bytes(digest[:8], "big") >> 1


def person(value: Any, *, name: str, rule: GroupRule) -> str:
    """The identifier that a table, array or file gives for the image ``name``.

    Raises:     DataError that names image and setting, and never the value: one that is missing,
                or neither text nor a whole number.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, int | np.integer) and not isinstance(value, bool | np.bool_):
        return str(int(value))
    if value is None or (isinstance(value, float) and value != value):
        value = ""
    if not isinstance(value, str):
        raise DataError(
            f"{name}: {rule} must be text or a whole number for each image, and is of type "
            f"{type(value).__name__}: fix data.group, or save identifiers as text"
        )
    text = unicodedata.normalize("NFC", value).strip()
    if text.lower() in _NOBODY:
        raise DataError(
            f"{name}: {rule} names nobody: fill it in, remove the image, or fix data.group"
        )
    if _SHORTENED.fullmatch(text):
        raise DataError(
            f"{name}: {rule} is a number that a spreadsheet shortened, as in 1.2E+05, and several "
            "persons may have one: save identifiers as text, or fix data.group"
        )
    return text


class Spellings:
    """The identifiers of one set, which must differ in more than their spelling.

    Two spellings are one number: this asks whether they are one person. Where no image may decide
    about another nobody is asked, and they are one.
    """

    def __init__(self, rule: GroupRule, *, each_alone: bool) -> None:
        self._rule = rule
        self._each_alone = each_alone
        self._seen: dict[str, tuple[str, str]] = {}

    def take(self, identifier: str, *, name: str) -> str:
        """``identifier``, which the image ``name`` has.

        Raises:     DataError naming this image and one of the other spelling, and never the value.
        """
        if self._each_alone:
            return identifier
        first, where = self._seen.setdefault(spelled_alike(identifier), (identifier, name))
        if first != identifier:
            raise DataError(
                f"{where} and {name}: {self._rule} names two persons who differ only in capitals, "
                "spaces, quotes, kinds of dashes, leading zeros or a decimal .0. Write each person "
                "in one way, or tell two persons apart by more than that"
            )
        return identifier


def spelled_alike(identifier: str) -> str:
    """What is left of an identifier without its spelling.

    >>> {spelled_alike(each) for each in ("P007", " P 7", "'p7'", "P\u200b7", "P\uff17")}
    {'p7'}
    >>> {spelled_alike(each) for each in ("A-07", "a\u20137")}, spelled_alike("+7,0")
    ({'a-7'}, '7')
    """
    folded = unicodedata.normalize("NFKC", without_marks(identifier)).casefold()
    text = "".join(_letter(each) for each in "".join(folded.split()))
    text = re.sub(r"^\+?(\d+)[.,]0+$", r"\1", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"^\+(?=\d)", "", text))


def _letter(letter: str) -> str:
    if letter in _QUOTES:
        return ""
    if unicodedata.category(letter) == "Pd":
        return "-"
    digit = unicodedata.decimal(letter, None)
    return letter if digit is None else str(digit)


def folder_person(file: Path, *, root: Path, rule: GroupRule) -> str:
    """The name of the folder at the rule's level below ``root``.

    The name alone counts: the same below two classes is one person with images of both.

    Raises:     DataError for a file above that level, or a folder that names a part of the set.
    """
    names = file.relative_to(root).parts[:-1]
    level = int(rule.name)
    if len(names) < level:
        raise DataError(
            f"{file} lies {len(names)} folder(s) below {root}, and data.group is {rule}: move it "
            "into its person's folder, or fix the level"
        )
    if part_of_name(names[level - 1]) is not None:
        raise DataError(
            f"data.group {rule} is a folder of a part of the set, and names nobody: fix the level"
        )
    return person(names[level - 1], name=str(file), rule=rule)


def of_their_own(number: int, *, beside: Groups) -> Groups:
    """Numbers of ``number`` records that are nobody's (canaries, shared images): each a group of
    its own, below zero, and none of ``beside``."""
    return min(0, int(beside.min(initial=0))) - 1 - np.arange(number, dtype=np.int64)


def majority(labels: npt.NDArray[np.int64], groups: Groups) -> npt.NDArray[np.int64]:
    """The most common label of each group, in the order of ``np.unique(groups)``; of several the
    least."""
    _, of_image = np.unique(groups, return_inverse=True)
    num_classes = int(labels.max(initial=0)) + 1
    pairs, counts = np.unique(of_image * num_classes + labels, return_counts=True)
    pairs = pairs[np.lexsort((pairs, -counts, pairs // num_classes))]
    _, first = np.unique(pairs // num_classes, return_index=True)
    labels_of_groups: Groups = pairs[first] % num_classes
    return labels_of_groups


def next_group(groups: Groups | None, place: int) -> int:
    """The first place from ``place`` on at which another group begins than stands before it, or
    the end; ``place`` itself without groups.

    Shape:      groups (N,) of records in their order, each in one run.
    """
    if groups is None or not 0 < place < len(groups):
        return place
    begins = np.flatnonzero(groups[place:] != groups[place - 1 : -1])
    return place + int(begins[0]) if len(begins) else len(groups)
