"""Whose the pictures in a folder are, as ``data.group`` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.decode import DecodedFiles
from phoenix_secure.data.groups import GroupKind, GroupRule, Spellings, folder_person, person
from phoenix_secure.data.inspection import Inspection
from phoenix_secure.data.label_files import people_of_table
from phoenix_secure.data.picture_tables import Table
from phoenix_secure.errors import ConfigError, DataError, NoImages

__all__ = ["groups_of_folder", "people_of_folder"]

People = list[str] | None


def people_of_folder(
    pictures: list[Path], *, tables: Sequence[Table], root: Path, inspection: Inspection
) -> tuple[list[Path], People, Path | None]:
    """The pictures of which somebody is known to be the owner, who that is, and the table that
    said so.

    People are None where the files themselves say it, or nothing does.

    Raises:     DataError naming the first picture that is nobody's; where no image may stop the
                others it is left out, and NoImages means that all were.
    """
    rule = inspection.rules.group
    if rule is None or rule.kind in (GroupKind.FILE, GroupKind.DICOM):
        return pictures, None, None
    table, values = None, None
    match rule.kind:
        case GroupKind.COLUMN:
            table, values = people_of_table(tables, pictures, root=root, rule=rule)
        case GroupKind.ARRAY:
            raise ConfigError(f"data.group {rule} is for an .npz file, not for a folder")
    kept, people, spellings = [], [], Spellings(rule, each_alone=inspection.rules.each_alone)
    for number, picture in enumerate(pictures):
        try:
            if values is None:
                found = folder_person(picture, root=root, rule=rule)
            else:
                found = person(values[number], name=str(picture), rule=rule)
            spellings.take(found, name=str(picture))
        except DataError as error:
            if not inspection.rules.each_alone:
                raise
            inspection.leave_out(str(picture.relative_to(root)), error)
            continue
        kept.append(picture)
        people.append(found)
    if not kept:
        raise NoImages(f"{root}: data.group {rule} names nobody for any picture")
    return kept, people, table


def groups_of_folder(
    people: People,
    chosen: npt.NDArray[np.int64],
    *,
    decoded: DecodedFiles,
    rule: GroupRule | None,
) -> npt.NDArray[np.int64] | None:
    """The numbers (N,) of the people of all images in the ``chosen`` files."""
    if rule is None:
        return None
    if people is None:
        return np.array(decoded.groups, np.int64)
    return np.array([rule.number(people[chosen[file]]) for file in decoded.file_of], np.int64)
