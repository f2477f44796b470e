"""The part of a folder of pictures that is read, where its names speak of parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from phoenix_secure.data.file_kinds import kind_of
from phoenix_secure.data.inspection import WHOLE_SET, Inspection
from phoenix_secure.data.listing import Listing
from phoenix_secure.data.parts import (
    are_terse_parts,
    named_parts,
    part_of_name,
    part_of_path,
    parts_of_name,
    speaks_of_no_part,
)
from phoenix_secure.errors import DataError

__all__ = ["within_part"]

_LEFT_OUT = ""


def within_part(listing: Listing, inspection: Inspection) -> tuple[Listing, str]:
    """The listing of the part that ``inspection.rules.part`` names, and the part's name.

    Guarantee:  where a folder's name speaks of a part, or names of pictures speak of different
                ones, nothing is read until a part is named. Where no image may decide about
                another, the name of a picture decides about that picture alone.
    Raises:     DataError that says which parts there are.
    """
    wanted = inspection.rules.part
    if wanted == "all":
        return listing, wanted
    marked = [folder for folder in listing.folders if parts_of_name(folder.name)]
    if marked and wanted is None:
        one = next((f for f in marked if part_of_name(f.name) == "train"), marked[0])
        raise DataError(
            f"the sub-folders of {listing.root} look like parts of a data set, not classes "
            f"({one.relative_to(listing.root)}): set path to one of them, such as {one}, "
            "or data.part to train, test, validation, or all"
        )
    terse = [folder.name for folder in listing.children]
    if wanted is None and are_terse_parts(terse):
        raise DataError(
            f"the sub-folders of {listing.root} look like parts or folds of a data set, not "
            f"classes ({', '.join(terse[:3])}): set path to one of them, or data.part to all"
        )
    start = len(str(listing.root))
    speaking = [file for file in listing.files if not speaks_of_no_part(str(file)[start:])]
    if wanted is None and not speaking:
        return listing, WHOLE_SET
    parts: dict[Path, str | None] = dict.fromkeys(listing.files)
    parts |= {file: _part_of_file(file, listing, inspection) for file in speaking}
    if marked:
        return _in_folders(listing, parts, str(wanted), inspection), str(wanted)
    return _in_files(listing, parts, inspection)


def _part_of_file(file: Path, listing: Listing, inspection: Inspection) -> str | None:
    """The part that the names of the folders and, of a picture, of the file speak of; _LEFT_OUT
    where they disagree and no image may stop the others."""
    names = file.parts[len(listing.root.parts) :]
    if kind_of(file, listing) is not None:
        return part_of_path(names[:-1])
    try:
        return part_of_path((*names[:-1], file.stem))
    except DataError as error:
        if not inspection.rules.each_alone:
            raise
        inspection.leave_out("/".join(names), error)
        return _LEFT_OUT


def _in_files(
    listing: Listing, parts: dict[Path, str | None], inspection: Inspection
) -> tuple[Listing, str]:
    """The part by the names of the pictures alone."""
    wanted = inspection.rules.part
    pictures = {file: part for file, part in parts.items() if kind_of(file, listing) is None}
    if inspection.rules.each_alone:
        allowed = (None, "train") if wanted in (None, "train") else (wanted,)
        for file, part in pictures.items():
            if part not in allowed:
                inspection.leave_out(file.name, f"{file} is named as one of the {part} images")
        kept = [file for file in listing.files if pictures.get(file, allowed[0]) in allowed]
        return _only(listing, kept), wanted or WHOLE_SET
    found = {part for part in pictures.values() if part}
    if wanted is None:
        if len(found) > 1 or (found and None in pictures.values()):
            one = next(file for file, part in pictures.items() if part)
            raise DataError(
                f"names of files in {listing.root} speak of {' and '.join(sorted(found))} "
                f"({one.name}): set data.part to one of them, or to all"
            )
        return listing, found.pop() if found else WHOLE_SET
    if wanted not in found:
        raise _no_part(listing, wanted, sorted(found))
    others = [file for file in listing.files if file not in pictures]
    return _only(
        listing, sorted([*_chosen(pictures, wanted, listing, inspection), *others])
    ), wanted


def _in_folders(
    listing: Listing, parts: dict[Path, str | None], wanted: str, inspection: Inspection
) -> Listing:
    """The part by the names of folders: one folder of that part, or one in each class."""
    outer = {
        above for folder in listing.folders if part_of_name(folder.name) for above in folder.parents
    }
    roots = [
        folder
        for folder in listing.folders
        if part_of_name(folder.name) == wanted and folder not in outer
    ]
    if not roots:
        raise _no_part(listing, wanted, named_parts(folder.name for folder in listing.folders))
    chosen = _chosen(parts, wanted, listing, inspection)
    outside = [file for file in chosen if not any(root in file.parents for root in roots)]
    for file in outside:
        told = f"{file} is named as one of the {wanted} images, outside of {roots[0]}"
        if not inspection.rules.each_alone:
            raise DataError(f"{told}: move it there, or rename it")
        inspection.leave_out(str(file.relative_to(listing.root)), told)
    kept = _only(listing, [file for file in chosen if file not in outside])
    if len(roots) == 1:
        return kept.within(roots[0])
    nested = {above for folder in listing.folders for above in folder.parents}
    in_classes = all(root.parent.parent == listing.root and root not in nested for root in roots)
    if in_classes and len({root.parent for root in roots}) == len(roots):
        return kept
    raise DataError(
        f"{listing.root} has several {wanted} parts, {roots[0].relative_to(listing.root)} and "
        f"{roots[1].relative_to(listing.root)}: set path to one of them"
    )


def _chosen(
    parts: dict[Path, str | None], wanted: str, listing: Listing, inspection: Inspection
) -> list[Path]:
    """The files of the wanted part; the others are told."""
    for file, part in parts.items():
        name = str(file.relative_to(listing.root))
        if part is None:
            inspection.pass_over(name, why=f"in no part, where data.part is {wanted}")
        elif part not in (wanted, _LEFT_OUT):
            inspection.not_chosen(name, why=f"of the {part} part")
    return [file for file, part in parts.items() if part == wanted]


def _no_part(listing: Listing, wanted: str, found: list[str]) -> DataError:
    there = f"only {', '.join(found)}" if found else "and its names speak of none: leave part out"
    return DataError(f"{listing.root} has no {wanted} part, {there}")


def _only(listing: Listing, files: list[Path]) -> Listing:
    return dataclasses.replace(listing, files=tuple(files))
