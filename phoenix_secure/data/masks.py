"""Masks, which lie beside the pictures that they are of and are no images themselves."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from phoenix_secure.data.listing import Listing
from phoenix_secure.data.parts import part_of_name, words_of_name
from phoenix_secure.errors import DataError

__all__ = ["file_stem", "is_mask_by_name", "require_no_mask_folders", "require_no_masks"]

_GAP = r"[ _.-]"
_END = rf"({_GAP}*\d+)?(\.nii)?(\.\w+)?$"
_SURE = r"masks?|segs?|segmentations?|gt|ground[ _-]?truth|annotations?|superpixels"
# Words that mean something else, too: of a mask where the picture is there.
_LIKELY = rf"{_SURE}|labels?|lbl|rois?|manual"
_SURE_END = re.compile(rf"{_GAP}+({_SURE}){_END}", re.IGNORECASE)
_LIKELY_END = re.compile(rf"{_GAP}+({_LIKELY}){_END}", re.IGNORECASE)
_BEGIN = re.compile(rf"({_LIKELY}){_GAP}+(?=.)", re.IGNORECASE)
_PICTURES = ("", "image_", "images_", "img_", "im_", "image-", "img-")

_MASKS = frozenset(
    (
        *("mask", "masks", "label", "labels", "annotation", "annotations", "truth", "groundtruth"),
        *("seg", "segs", "segmentation", "segmentations", "gt", "lbl", "roi", "rois"),
    )
)
# What else stands in the name of a folder of masks (SegmentationClass, ManualMask, labelsTr).
_BESIDE = frozenset(
    (
        *("ground", "manual", "binary", "class", "classes", "object", "objects", "instance"),
        *("semantic", "pixel", "pixels", "tr", "ts", "png", "image", "images", "img", "imgs"),
    )
)
_IMAGES = frozenset(
    (
        *("image", "images", "img", "imgs", "original", "originals", "photo", "photos", "raw"),
        *("picture", "pictures", "scan", "scans", "slices", "frames", "volumes", "input", "inputs"),
        *("cxr", "xray", "ct", "mri", "png", "jpg", "jpeg"),
    )
)


def file_stem(file: Path) -> str:
    """The name without its suffix, .nii.gz being one."""
    return file.name[:-7] if file.name.lower().endswith(".nii.gz") else file.stem


def is_mask_by_name(file: Path) -> bool:
    """Whether a file's own name says mask, as a_mask.png does, whatever lies beside it."""
    return _SURE_END.search(file.name) is not None


def require_no_masks(pictures: Sequence[Path]) -> None:
    """Refuse masks beside the pictures that they are of, such as a.png and a_mask.png, mask_a.png,
    or a_t1.nii and a_seg.nii.

    Raises:     DataError that names the first pair.
    """
    masks = {file: stems for file in pictures if (stems := _pictured(file.name))}
    if not masks:
        return
    others: dict[Path, list[str]] = defaultdict(list)
    for file in pictures:
        if file not in masks:
            others[file.parent].append(file_stem(file))
    for stems in others.values():
        stems.sort()
    for file, wanted in masks.items():
        of = next((stem for stem in wanted if _begins(stem, others[file.parent])), None)
        if of is not None:
            raise DataError(
                f"{file} looks like a mask of the picture {of!r} beside it, and would be an "
                "image of its own: move the masks away"
            )


def require_no_mask_folders(listing: Listing) -> None:
    """Refuse folders of masks beside one of images, and below a class or a person.

    Raises:     DataError that names the first.
    """
    for folder in listing.folders:
        if not _is_mask_folder(folder.name):
            continue
        beside = [other for other in listing.folders if other.parent == folder.parent != other]
        of = next((o for o in beside if o != folder and _is_image_folder(o.name)), None)
        if folder.parent != listing.root:
            raise DataError(
                f"{folder} looks like masks of the images around it, and would be images of their "
                "own: move the masks away, or rename the folder"
            )
        if of is not None:
            raise DataError(
                f"the sub-folders of {listing.root} look like images and their masks "
                f"({folder.name}), not classes: set path to the images, such as {of}"
            )


def _pictured(name: str) -> list[str]:
    """Stems of pictures that a file of this name may be a mask of."""
    found = _LIKELY_END.search(name)
    if found and found.start():
        return [name[: found.start()]]
    begin = _BEGIN.match(name)
    return [f"{word}{file_stem(Path(name[begin.end() :]))}" for word in _PICTURES] if begin else []


def _begins(stem: str, stems: list[str]) -> bool:
    """Whether one of the sorted ``stems`` is ``stem``, or goes on after a gap."""
    for place in range(bisect_left(stems, stem), len(stems)):
        if not stems[place].startswith(stem):
            return False
        if re.fullmatch(rf"({_GAP}.*)?", stems[place][len(stem) :]):
            return True
    return False


def _is_mask_folder(name: str) -> bool:
    words = {word for word in words_of_name(name) if part_of_name(word) is None}
    return bool(words & _MASKS) and words <= _MASKS | _BESIDE


def _is_image_folder(name: str) -> bool:
    return bool(words_of_name(name) & _IMAGES) and not _is_mask_folder(name)
