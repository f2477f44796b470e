"""Tell pictures from other files: by suffix where it is known, else by content."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

from phoenix_secure.data.decode import (
    DICOM_SUFFIXES,
    NIFTI_SUFFIXES,
    PICTURE_FORMATS,
    PICTURE_SUFFIXES,
)
from phoenix_secure.data.file_marks import MARKS_END, kind_by_marks
from phoenix_secure.data.listing import Listing
from phoenix_secure.data.medical import can_read
from phoenix_secure.data.reading_progress import report

__all__ = ["kind_of", "pictures_among"]

# Pictures inside, as a rule, that would count a second time.
_BACKUPS = ("~", ".bak", ".orig", ".old")
_NAMES = {
    "DICOM": DICOM_SUFFIXES,
    "NIfTI": NIFTI_SUFFIXES,
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "JPEG 2000": (".jp2", ".j2k", ".jpx", ".j2c"),
    "JPEG XL": (".jxl",),
    # TIFF inside, of which only the small preview could be read.
    "camera raw": (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".pef", ".srw", ".raf"),
    "whole-slide": (".svs", ".ndpi", ".scn", ".vms", ".bif", ".mrxs", ".czi"),
}
_KINDS = {suffix: kind for kind, suffixes in _NAMES.items() for suffix in suffixes}


def kind_of(file: Path, listing: Listing) -> str | None:
    """None for a picture, DICOM or NIfTI; else words for what the file is, to tell the user.

    Files of a picture's suffix count as pictures whatever they hold: a damaged one is an error.
    """
    if file not in listing.kinds:
        listing.kinds[file] = _kind_of(file)
        report("inspecting files", len(listing.kinds), len(listing.files))
    return listing.kinds[file]


def pictures_among(listing: Listing) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The pictures, and the other files with what they are."""
    pictures, others = [], []
    for file in listing.files:
        kind = kind_of(file, listing)
        if kind is None:
            pictures.append(file)
        else:
            others.append((file, kind))
    return pictures, others


def _kind_of(file: Path) -> str | None:
    name = file.name.lower()
    if name == "dicomdir":
        return "DICOM directory (no image), not read"
    if name.endswith(_BACKUPS):
        return "backup copy, not read"
    suffix = ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return None
    known = _KINDS.get(suffix) or _kind_of_content(file)
    if known == "picture" or can_read(str(known)):
        return None
    shown = suffix if file.suffix else "no suffix"
    if known in ("DICOM", "NIfTI"):
        return f"{known} ({shown}), not read without the extra package phoenix-secure[medical]"
    return f"{known} ({shown}), not read" if known else f"no picture ({shown})"


def _kind_of_content(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            known = kind_by_marks(opened.read(MARKS_END))
        if known is not None:
            return known
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=PICTURE_FORMATS):
                return "picture"
    except Exception:
        # Whatever a parser makes of a file that nobody called a picture: it is none.
        return None
