"""Parts of a published set (train, test, validation), told by the words in names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from phoenix_secure.errors import DataError

__all__ = [
    "PARTS",
    "PART_COLUMNS",
    "are_terse_parts",
    "named_parts",
    "part_of_name",
    "part_of_path",
    "parts_of_columns",
    "parts_of_name",
    "require_one_configuration",
    "speaks_of_no_part",
    "words_of_name",
]

PARTS = ("train", "test", "validation", "all")

_WORDS = {
    "train": r"train|training|trn|trainval",
    "test": r"test|testing|tests|tst",
    "validation": r"val|vals|valid|validation|validating|dev|devel|eval|evaluation|holdout",
}
# "imagesTr" and "labelsTs", of the medical challenges' layout.
_SHORT = {"train": "tr", "test": "ts", "validation": "val"}
# "trainset", "test_images" and "Xtrain" are words of a part; "strain", "latest" and "valley" are
# none.
_THINGS = r"sets?|splits?|datas?|dataset|images?|imgs?|pics?|pictures?|files?|folders?"
_PATTERNS = {
    part: re.compile(
        rf"(?:x|y|(?:{_THINGS}))?(?:{words})(?:{_THINGS})?|(?:images|labels)(?:{_SHORT[part]})"
    )
    for part, words in _WORDS.items()
}
PART_COLUMNS = frozenset(
    ("split", "splits", "set", "subset", "part", "partition", "phase", "usage", "dataset", "fold")
)
_HINT = re.compile(r"tr|te|ts|val|dev|ho", re.IGNORECASE)  # no name without it speaks of a part
_FOLD = re.compile(r"(?:fold|split)s?[ _-]*\d+", re.IGNORECASE)
_TERSE = frozenset(("tr", "te", "ts", "va", "vl"))  # as parts together, each a name of its own
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_NO_CONFIGURATION = re.compile(
    # Numbers of shards, identifiers and "key=value" folders tell no configuration.
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b(?=[a-f]*\d)[0-9a-f]{8,}\b|^[^=]+=.*$",
    re.IGNORECASE,
)


def speaks_of_no_part(path: str) -> bool:
    """Whether a relative path surely speaks of no part: quick, for the many that do not."""
    return _HINT.search(path) is None


@functools.lru_cache(maxsize=4096)
def parts_of_name(name: str) -> frozenset[str]:
    """The parts that one file or folder name speaks of.

    >>> sorted(parts_of_name("train_and_val")), sorted(parts_of_name("contest"))
    (['train', 'validation'], [])
    """
    if not _HINT.search(name):
        return frozenset()
    words = {*_LETTERS.findall(name.lower()), *words_of_name(name)}
    return frozenset(p for p, known in _PATTERNS.items() if any(map(known.fullmatch, words)))


def words_of_name(name: str) -> frozenset[str]:
    """The words of a name, in small letters; capitals begin one.

    >>> sorted(words_of_name("JPEGImages_2"))
    ['images', 'jpeg']
    """
    return frozenset(word.lower() for word in _CAMEL.findall(name))


def part_of_name(name: str) -> str | None:
    """The part that one file or folder name speaks of; None for no part, or several.

    >>> [part_of_name(n) for n in ("Train_images", "mnist-test-00000", "xVal", "strain", "latest")]
    ['train', 'test', 'validation', None, None]
    """
    found = parts_of_name(name)
    return next(iter(found)) if len(found) == 1 else None


def part_of_path(names: tuple[str, ...]) -> str | None:
    """The part that the names along a relative path, without the file's suffix, speak of.

    Raises:     DataError where two of them disagree.
    """
    found = {part for name in names if (part := part_of_name(name))}
    if len(found) > 1:
        raise DataError(
            f"{'/'.join(names)} speaks of {' and '.join(sorted(found))}: rename it, "
            "or set data.part to all"
        )
    return found.pop() if found else None


def _words_of_set(path: PurePath) -> tuple[str, ...]:
    """The words along a relative path that name neither a part nor a shard."""
    text = [_NO_CONFIGURATION.sub(" ", name) for name in (*path.parent.parts, path.stem)]
    words = [word for name in text for word in _LETTERS.findall(name.lower())]
    return tuple(
        word for word in words if len(word) > 1 and word != "of" and part_of_name(word) is None
    )


def require_one_configuration(files: Sequence[Path], *, root: Path) -> None:
    """Refuse files of several configurations of a set, such as cropped/train and full/train.

    Raises:     DataError that names one file of each of two.
    """
    first: dict[tuple[str, ...], Path] = {}
    for file in files:
        first.setdefault(_words_of_set(file.relative_to(root)), file)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise DataError(
            f"{root} holds several sets or configurations: {one.relative_to(root)} and "
            f"{other.relative_to(root)} are not shards of one; set path to a folder of one"
        )


def parts_of_columns(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """The columns of a table that say of which part each row is, where rows are of several.

    >>> parts_of_columns({"split": ["train", "test", None], "label": [0, 1, 1]})
    {'split': ['test', 'train']}
    """
    found = {
        name: named_parts(set(map(str, values)))
        for name, values in columns.items()
        if name.lower() in PART_COLUMNS
    }
    return {name: parts for name, parts in found.items() if len(parts) > 1}


def are_terse_parts(names: Sequence[str]) -> bool:
    """Whether several names together look like parts, none of which says so alone.

    >>> are_terse_parts(["tr", "te"]), are_terse_parts(["fold1", "fold2"]), are_terse_parts(["te"])
    (True, True, False)
    """
    lower = {name.lower() for name in names}
    is_fold = all(map(_FOLD.fullmatch, lower))
    return len(lower) > 1 and (is_fold or ("tr" in lower and lower <= _TERSE))


def named_parts(names: Iterable[str]) -> list[str]:
    """The parts that ``names`` speak of, sorted."""
    return sorted({part for name in names if (part := part_of_name(name))})
