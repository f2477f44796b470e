"""Images from the user's own folder; sub-folders are classes."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.decode import PICTURE_SUFFIXES, decode_pictures
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.selection import balanced_indices
from phoenix_secure.errors import DataError, NoImages

__all__ = ["load_folder", "stack_pictures"]

_log = logging.getLogger(__name__)
_PART_NAMES = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))


def load_folder(
    folder: Path,
    *,
    image_size: int | None,
    channels: int | None,
    max_images: int | None,
    each_alone: bool = False,
) -> ImageSet:
    """Every picture in ``folder``, in the order of the file names.

    Each direct sub-folder is a class, named after it and numbered in sorted order; an empty one
    counts too, so that sites which lack a class still number the others alike. Pictures are looked
    for below a class folder at any depth, by suffix; hidden files are passed over. With
    ``each_alone`` a picture that cannot be read, or lies beside class folders, is left out.

    Raises:     DataError that names the file or folder and says what to do; NoImages.
    """
    if not folder.is_dir():
        raise DataError(f"no folder at {folder}: set path to the folder that holds the images")
    try:
        loose = _pictures(folder, recursive=False)
        class_folders = sorted(
            entry for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry)
        )
        if each_alone and class_folders:
            for file in loose:
                _log.warning("left out: %s lies beside class folders, in no class", file)
            loose = []
        files = loose or [
            file for entry in class_folders for file in _pictures(entry, recursive=True)
        ]
    except OSError as error:
        raise DataError(f"cannot list {folder} ({error.strerror}): check permissions") from error
    if not files:
        raise NoImages(
            f"{folder} holds no pictures: expected files ending in "
            f"{', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    class_names: tuple[str, ...] = ()
    labels: npt.NDArray[np.int64] | None = None
    if class_folders:
        class_names = tuple(entry.name for entry in class_folders)
        _require_classes(folder, class_names, has_loose_files=bool(loose))
        number = {name: label for label, name in enumerate(class_names)}
        labels = np.array([number[file.relative_to(folder).parts[0]] for file in files])
    chosen = balanced_indices(labels, num_images=len(files), max_images=max_images)
    names = [str(files[i]) for i in chosen]
    kept, pictures = decode_pictures(
        [partial(_read, files[i]) for i in chosen],
        names=names,
        image_size=image_size,
        channels=channels,
        each_alone=each_alone,
    )
    facts = facts_of("image-folder")
    return ImageSet(
        name=facts.name,
        images=stack_pictures(pictures, names=[names[i] for i in kept]),
        labels=None if labels is None else labels[chosen[kept]],
        class_names=class_names,
        source=str(folder),
        licence=facts.licence,
    )


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
            )
        if picture.shape[0] != first[0]:
            raise DataError(
                f"{name} has {picture.shape[0]} channel(s) but {names[0]} has {first[0]}: "
                "set channels to 1 (grey) or 3 (RGB)"
            )
    if first[1] != first[2]:
        raise DataError(
            f"images are {first[2]} x {first[1]} pixels, not square: "
            "set image_size to crop and resize them"
        )
    return np.stack(pictures)


def _require_classes(folder: Path, class_names: tuple[str, ...], *, has_loose_files: bool) -> None:
    if has_loose_files:
        raise DataError(
            f"{folder} holds pictures beside the class folder {class_names[0]!r}: "
            "move them into a class folder, or use a folder without sub-folders"
        )
    if {name.lower() for name in class_names} <= _PART_NAMES:
        raise DataError(
            f"the sub-folders of {folder} look like parts of a data set, not classes: "
            f"set path to one of them, such as {folder / class_names[0]}"
        )


def _pictures(folder: Path, *, recursive: bool) -> list[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        file
        for file in found
        if file.suffix.lower() in PICTURE_SUFFIXES
        and not any(_is_hidden(part) for part in (file, *file.relative_to(folder).parents))
        and file.is_file()
    )


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file} ({error.strerror}): check permissions") from error
