"""Images from the user's own folder; sub-folders are classes."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.decode import (
    DICOM_SUFFIXES,
    NIFTI_SUFFIXES,
    PICTURE_SUFFIXES,
    DecodedFiles,
    decode_files,
    file_group,
)
from phoenix_secure.data.decoded_cache import Decoded, decoded_key, find_decoded, keep_decoded
from phoenix_secure.data.deep_export import SCALE_FILE, DeepScale
from phoenix_secure.data.file_kinds import pictures_among
from phoenix_secure.data.folder_parts import within_part
from phoenix_secure.data.folder_people import groups_of_folder, people_of_folder
from phoenix_secure.data.groups import GroupKind
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inspection import Inspection
from phoenix_secure.data.label_files import FileLabels, read_label_file
from phoenix_secure.data.labels import folder_class, require_few, require_unlike
from phoenix_secure.data.listing import Listing, list_folder
from phoenix_secure.data.masks import (
    is_mask_by_name,
    require_no_mask_folders,
    require_no_masks,
)
from phoenix_secure.data.percentiles import Percentiles
from phoenix_secure.data.picture_tables import (
    Table,
    is_label_file,
    parts_of_pictures,
    read_tables,
    require_one_part,
)
from phoenix_secure.data.reading_progress import report
from phoenix_secure.data.scale import shown_window
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.errors import DataError, NoImages

__all__ = ["load_folder", "stack_pictures"]

_MAX_FILE_BYTES = 1 << 31
_AS_THEY_ARE = " (audit and evaluate take images as they are: resize the files for those)"


def load_folder(
    folder: Path,
    *,
    image_size: int | None,
    channels: int | None,
    max_images: int | None,
    inspection: Inspection,
) -> ImageSet:
    """Every picture in ``folder``, in the order of the file names.

    Each direct sub-folder is a class, named after it and numbered in sorted order; an empty one
    counts too, so that sites which lack a class still number the others alike. Pictures are looked
    for below a class folder at any depth, by suffix, and by content where the suffix tells nothing.
    Loose pictures take the labels of a table beside them. Where no image may decide about another,
    one that cannot be read, lies beside class folders or is named as a mask is left out, and tables
    give no labels.
    With ``data.group`` folder:1 the direct sub-folders are people and no classes.

    Raises:     DataError that names the file or folder and says what to do; NoImages.
    """
    if not folder.is_dir():
        raise DataError(f"no folder at {folder}: set path to the folder that holds the images")
    rule = inspection.rules.group
    listing, part = within_part(list_folder(folder, inspection), inspection)
    require_no_mask_folders(listing)
    pictures, others = pictures_among(listing)
    people_first = rule is not None and str(rule) == "folder:1"
    classes = () if people_first else listing.children
    if inspection.rules.each_alone:
        # Whether the picture that a mask is of is there, too, must decide nothing.
        for file in (masks := [file for file in pictures if is_mask_by_name(file)]):
            inspection.pass_over(str(file.relative_to(folder)), why="mask(s), by their names")
        pictures = [file for file in pictures if file not in set(masks)]
    else:
        require_no_masks(pictures)
    loose = [file for file in pictures if file.parent == listing.root]
    if classes and loose:
        _leave_out_loose(loose, classes, listing=listing, inspection=inspection)
        pictures = [file for file in pictures if file.parent != listing.root]
    exported = DeepScale.beside(listing.root)
    if exported is not None:
        _require_its_window(exported, listing, inspection=inspection)
        others = [(file, kind) for file, kind in others if file != listing.root / SCALE_FILE]
    by_column = rule is not None and rule.kind is GroupKind.COLUMN
    with_labels = len(classes) <= 1 and not inspection.rules.each_alone
    tables = []
    for file, kind in others:
        if is_label_file(file) and file.parent == listing.root:
            if with_labels or by_column:
                tables.append(file)
                continue
            if len(classes) <= 1:
                # The classes would follow from the rows, which are images.
                kind = "table(s), not read where no image may decide about classes"
        inspection.pass_over(str(file.relative_to(folder)), why=kind)
    if not pictures:
        raise NoImages(_nothing_to_read(folder, others))
    read = read_tables(tables)
    if inspection.rules.each_alone:
        pictures = _of_training(pictures, read, listing=listing, inspection=inspection)
    elif inspection.rules.part is None:
        require_one_part(read)
    pictures, people, of_people = people_of_folder(
        pictures, tables=read, root=listing.root, inspection=inspection
    )
    found: FileLabels | None = None
    if with_labels:
        found = read_label_file(read, pictures, inspection=inspection, of_people=of_people)
    if found is None and people_first:
        inspection.note("no labels: with data.group folder:1 the sub-folders are people")
    elif found is None:
        found = _labels_of_folders(listing, pictures, inspection=inspection)
    labels, class_names, labels_from = found or (None, (), "none")
    inspection.require_complete()
    chosen = balanced_indices(labels, num_images=len(pictures), max_images=max_images)
    for index in sorted(set(range(len(pictures))) - set(chosen.tolist())):
        inspection.not_chosen(str(pictures[index].relative_to(folder)), why="beyond max_images")
    decoded, pixels = _decoded(
        [pictures[index] for index in chosen.tolist()],
        image_size=image_size,
        channels=channels,
        inspection=inspection,
    )
    facts = facts_of("image-folder")
    image_set = ImageSet(
        name=facts.name,
        images=pixels,
        labels=None if labels is None else labels[chosen[decoded.file_of]],
        class_names=class_names,
        source=str(listing.root),
        licence=facts.licence,
        groups=groups_of_folder(people, chosen, decoded=decoded, rule=rule),
    )
    return inspection.finish(image_set, labels_from=labels_from, scale=inspection.scale, part=part)


def _require_its_window(exported: DeepScale, listing: Listing, *, inspection: Inspection) -> None:
    """Samples that left in 16 bits are read with the window beside them, or one that was chosen."""
    wanted = shown_window(exported.pixel_window)
    if inspection.rules.window is None and not inspection.rules.each_alone:
        raise DataError(
            f"{listing.root} holds samples in 16 bits: set data.window to {wanted}, as "
            f"{SCALE_FILE} says"
        )
    if inspection.window not in (None, exported.pixel_window):
        inspection.note(f"{SCALE_FILE} beside the pictures says data.window {wanted}")


def _decoded(
    files: list[Path],
    *,
    image_size: int | None,
    channels: int | None,
    inspection: Inspection,
) -> tuple[DecodedFiles, npt.NDArray[np.uint8]]:
    """What the files hold, and all pixels, from the cache where it has them.

    Kept are sets of one picture a file of which nothing was told while decoding: it would not be
    told again.
    """
    seen: list[bytes] = []
    names = list(map(str, files))
    rule = inspection.rules.group
    # What is read for a percentile or for PatientID is as much as to decode again.
    is_kept = rule is None or rule.kind is not GroupKind.DICOM
    is_kept &= not isinstance(inspection.rules.window, Percentiles)
    cache = inspection.rules.cache if is_kept else None
    form = {"image_size": image_size, "channels": channels}

    def hashed(number: int) -> bytes:
        content = _read(files[number])
        seen.append(hashlib.sha256(content).digest())
        return content

    if cache is not None:
        groups = []
        for number, name in enumerate(names):
            report("looking for pictures in the cache", number + 1, len(files))
            content = hashed(number)
            groups.append(file_group(content, name=name, rule=rule))
        key = decoded_key(seen, rules=inspection.rules, **form)
        found = find_decoded(cache, key, num_images=len(files))
        if found is not None:
            inspection.saw_bits(found.bits)
            return DecodedFiles([], list(range(len(files))), groups), found.pixels
    told = inspection.num_told
    seen.clear()
    decoded = decode_files(
        [partial(hashed, number) for number in range(len(files))],
        names=names,
        inspection=inspection,
        **form,
    )
    pixels = stack_pictures(decoded.images, names=[names[index] for index in decoded.file_of])
    whole = decoded.file_of == list(range(len(files))) and not inspection.is_medical
    if cache is not None and whole and inspection.num_told == told and len(seen) == len(files):
        # Of what was decoded: a file may have changed since it was looked for.
        key = decoded_key(seen, rules=inspection.rules, **form)
        keep_decoded(cache, key, Decoded(pixels=pixels, bits=inspection.bits))
    return decoded, pixels


def stack_pictures(
    pictures: list[npt.NDArray[np.uint8]], *, names: list[str]
) -> npt.NDArray[np.uint8]:
    """Stack (C, H, W) pictures of one square size into (N, C, H, H).

    Raises:     DataError that names the first picture that differs, and the setting to use.
    """
    first = pictures[0].shape
    for picture, name in zip(pictures, names, strict=True):
        if picture.shape[1:] != first[1:]:
            raise DataError(
                f"{name} is {picture.shape[2]} x {picture.shape[1]} pixels but {names[0]} is "
                f"{first[2]} x {first[1]}: set image_size to bring all images to one size"
                f"{_AS_THEY_ARE}"
            )
        if picture.shape[0] != first[0]:
            raise DataError(
                f"{name} has {picture.shape[0]} channel(s) but {names[0]} has {first[0]}: "
                "set channels to 1 (grey) or 3 (RGB)"
            )
    if first[1] != first[2]:
        raise DataError(
            f"images are {first[2]} x {first[1]} pixels, not square: "
            f"set image_size to crop and resize them{_AS_THEY_ARE}"
        )
    stacked = np.empty((len(pictures), *first), np.uint8)
    for number in range(len(pictures)):
        stacked[number] = pictures[number]
        pictures[number] = pictures[0]  # lets go of it: two copies of a large set do not fit
    return stacked


def _leave_out_loose(
    loose: list[Path], classes: tuple[Path, ...], *, listing: Listing, inspection: Inspection
) -> None:
    if not inspection.rules.each_alone:
        raise DataError(
            f"{listing.root} holds pictures beside the class folder {classes[0].name!r}: "
            "move them into a class folder, or use a folder without sub-folders"
        )
    for file in loose:
        inspection.leave_out(file.name, f"{file} lies beside class folders, in no class")


def _of_training(
    pictures: list[Path], tables: list[Table], *, listing: Listing, inspection: Inspection
) -> list[Path]:
    """The pictures of which no row of a table says that they are of another part."""
    wanted = inspection.rules.part or "train"
    kept = []
    found = parts_of_pictures(tables, pictures, root=listing.root)
    for file, part in zip(pictures, found, strict=True):
        if wanted == "all" or part in (None, wanted):
            kept.append(file)
        else:
            inspection.leave_out(file.name, f"{file} is of the {part} part, as its row says")
    if not kept:
        raise NoImages(f"{listing.root} holds no picture of the {wanted} part")
    return kept


def _labels_of_folders(
    listing: Listing, pictures: list[Path], *, inspection: Inspection
) -> FileLabels | None:
    folders = sorted(listing.children, key=folder_class)
    if not folders:
        return None
    require_few(len(folders), where=f"sub-folders of {listing.root}")
    names = tuple(folder_class(folder) for folder in folders)
    require_unlike(names, where=str(listing.root), fix="put them into one folder")
    depth = len(listing.root.parts)
    number = {folder.name: place for place, folder in enumerate(folders)}
    labels = np.array([number[file.parts[depth]] for file in pictures])
    if not inspection.rules.each_alone:
        _require_pictures(folders, labels, listing=listing)
    return labels, names, "sub-folders"


def _require_pictures(
    folders: list[Path], labels: npt.NDArray[np.int64], *, listing: Listing
) -> None:
    """Refuse a folder of other files, which would count as a class and move the others."""
    depth = len(listing.root.parts)
    not_empty = {file.parts[depth] for file in listing.files}
    with_pictures = {folders[label].name for label in np.unique(labels)}
    for folder in folders:
        if folder.name in not_empty - with_pictures:
            raise DataError(
                f"{folder} holds files but no picture that can be read: move it away, or, if it is "
                "a class without images, empty it"
            )


def _nothing_to_read(folder: Path, others: list[tuple[Path, str]]) -> str:
    kinds = sorted({kind for _, kind in others})
    seen = f" (found {len(others):,} other files: {'; '.join(kinds[:5])})" if others else ""
    suffixes = ", ".join(sorted((*PICTURE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES)))
    return f"{folder} holds no pictures: expected files ending in {suffixes}{seen}"


def _read(file: Path) -> bytes:
    try:
        with file.open("rb", buffering=0) as opened:
            if os.fstat(opened.fileno()).st_size > _MAX_FILE_BYTES:
                raise DataError(f"{file} is larger than 2 GiB: crop it, or split it into files")
            return opened.readall()
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}): check permissions") from error
