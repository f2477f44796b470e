"""A column of the user's own (scanner, sex, hospital) by which an audit looks at groups of images.

It is read as ``data.group`` is, in a reading of its own: the images of an audit keep no metadata.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phoenix_secure.config import DataConfig
from phoenix_secure.config.images import OWN_DATA
from phoenix_secure.data.groups import GroupKind, GroupRule
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.data.sources import load_images, rules_of
from phoenix_secure.errors import ConfigError, DataError

__all__ = ["UserColumn", "values_of_file", "values_of_run"]

_KINDS = (GroupKind.COLUMN, GroupKind.ARRAY, GroupKind.FOLDER)
_MOST = 50  # values: more are names of people or files, and every interval would be as wide as 0..1
Values = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserColumn:
    """The value of each member and non-member, as written."""

    name: str
    members: Values
    non_members: Values


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named(GroupRule):
    """A rule whose numbers count the values in the order in which they come."""

    values: dict[str, int] = field(default_factory=dict, repr=False)

    def number(self, identifier: str) -> int:
        return self.values.setdefault(identifier, len(self.values))


def values_of_file(path: Path, image_set: ImageSet, *, by: str) -> Values:
    """The value of each image of ``image_set``, which was read from ``path``; (N,) text.

    by      column:NAME of a table beside pictures, array:NAME of an .npz file, folder:LEVEL
    Raises:     ConfigError for another ``by``; DataError where images have no value, or too many
                different ones.
    """
    rule = _rule(by)
    name = "npz" if path.suffix == ".npz" else "image-folder"
    found = _read(
        lambda: load_images(name, path=str(path), cache_dir=path, rules=ReadingRules(group=rule)),
        by=by,
    )
    return _values(found, rule, like=image_set, by=by)


def values_of_run(
    data: DataConfig, image_set: ImageSet, *, seed: int, cache_dir: Path, by: str
) -> Values:
    """The same for the images of a run before its split."""
    rule = _rule(by)
    if data.name not in OWN_DATA:
        raise ConfigError(f"--by {by} is for images of your own: {data.name} has no such column")
    rules = dataclasses.replace(rules_of(data, cache_dir=cache_dir), group=rule)
    found = _read(
        lambda: load_images(
            data.name,
            path=data.path,
            image_size=data.image_size,
            channels=data.channels,
            cache_dir=cache_dir,
            max_images=data.max_images,
            rules=rules,
        ),
        by=by,
    )
    return _values(found, rule, like=image_set, by=by)


def _rule(by: str) -> _Named:
    try:
        plain = GroupRule.of(by, key=bytes(32))
    except ConfigError:
        plain = None
    if plain is None or plain.kind not in _KINDS:
        raise ConfigError(
            f"--by {by[:60]}: use column:NAME (of a table beside the pictures), array:NAME (of an "
            ".npz file) or folder:LEVEL"
        )
    return _Named(kind=plain.kind, name=plain.name, key=plain.key)


def _read(read: Callable[[], ImageSet], *, by: str) -> ImageSet:
    try:
        return read()
    except DataError as error:
        # The words of the reading are about data.group, which reads people so.
        raise DataError(f"--by {by}: {error}") from error


def _values(found: ImageSet, rule: _Named, *, like: ImageSet, by: str) -> Values:
    if found.groups is None or found.num_images != like.num_images:
        raise DataError(
            f"--by {by}: that reading has {found.num_images} images, the audit {like.num_images}: "
            "fill in the column for every image"
        )
    if len(rule.values) > _MOST:
        raise DataError(
            f"--by {by} has {len(rule.values)} different values, at most {_MOST} can be told apart "
            "by an audit: use a column of fewer"
        )
    return np.array(list(rule.values))[found.groups]
