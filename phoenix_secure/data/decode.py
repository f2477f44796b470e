"""Decode the pictures in files from untrusted bytes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.depth import (
    deep_values,
    spread_transparency,
    stored_bits,
    windowed_picture,
)
from phoenix_secure.data.dicom import NoPixels, dicom_images, dicom_person, is_dicom
from phoenix_secure.data.file_marks import MARKS_END, kind_by_marks
from phoenix_secure.data.groups import GroupKind, GroupRule, person
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.medical import require_medical
from phoenix_secure.data.nifti import is_nifti, nifti_images
from phoenix_secure.data.percentiles import Percentiles, ValueCounts
from phoenix_secure.data.pixels import conform_picture
from phoenix_secure.data.reading_progress import report
from phoenix_secure.data.scale import Window
from phoenix_secure.data.stored_image import StoredImage, require_finite, stored_bytes
from phoenix_secure.data.whole_picture import picture_behind, require_whole
from phoenix_secure.errors import DataError, NoImages

__all__ = [
    "DICOM_SUFFIXES",
    "NIFTI_SUFFIXES",
    "PICTURE_FORMATS",
    "PICTURE_SUFFIXES",
    "DecodedFiles",
    "decode_files",
    "decode_picture",
    "file_group",
    "stored_values",
]

# An allow-list: Pillow would otherwise try every plugin it has, among them EPS, which starts an
# external interpreter on the file's content.
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
# Multi-picture JPEG: kinds of a second picture that show the first one again.
_PREVIEWS = ("Large Thumbnail", "Undefined")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class DecodedFiles:
    """Images (C, H, W) uint8, the number of the file that each is from, and of the person whom the
    file itself names."""

    images: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    file_of: list[int] = field(default_factory=list)
    groups: list[int | None] = field(default_factory=list)


def decode_picture(
    content: bytes,
    *,
    image_size: int | None,
    channels: int | None,
    name: str,
    inspection: Inspection | None = None,
) -> npt.NDArray[np.uint8]:
    """The picture in ``content`` as (C, H, W) uint8; see ``conform_picture`` for the form.

    ``inspection`` brings the window of deep pictures, and notes what was found.

    Raises:     DataError that names ``name`` for anything that is not one whole picture: another
                format, a truncated or damaged file, several frames, a decompression bomb, more than
                8 bits per channel without a window.
    """
    inspection = inspection or Inspection(name, ReadingRules())
    with _opened(content, name=name, inspection=inspection) as (picture, bits):
        inspection.saw_bits(bits)
        shallow = windowed_picture(content, picture, bits=bits, window=inspection.window, name=name)
        shallow.load()
        pixels = conform_picture(shallow, image_size=image_size, channels=channels, name=name)
        if picture.has_transparency_data and pixels.min() == 255:
            # As programs leave it that know of no transparency.
            inspection.note("transparent everywhere, and so white", name)
        return pixels


def stored_values(content: bytes, *, name: str) -> npt.NDArray[Any]:
    """The values of a picture as the file stores them, without its transparency.

    Raises:     DataError as ``decode_picture``.
    """
    with _opened(content, name=name, inspection=Inspection(name, ReadingRules())) as (
        picture,
        bits,
    ):
        if bits <= 8:
            return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
        values = deep_values(content, picture, name=name)
        has_alpha = values.ndim == 3 and values.shape[2] in (2, 4)
        return values[..., :-1] if has_alpha else values


@contextlib.contextmanager
def _opened(
    content: bytes, *, name: str, inspection: Inspection
) -> Iterator[tuple[Image.Image, int]]:
    """The one picture in ``content``, checked, and its bits per channel; what is done with it fails
    as a DataError."""
    if not content:
        raise DataError(f"{name} is empty: remove it or copy it again")
    if content.startswith(_LFS_POINTER):
        raise DataError(f"{name} is a Git LFS pointer, no picture: run `git lfs pull`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # damaged metadata around whole pixels
            with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as picture:
                # A PNG's checksums, to its very end: load() alone takes one that was cut short.
                picture.verify()
            with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as picture:
                _require_one_picture(picture, name=name, inspection=inspection)
                bits = stored_bits(content, picture, name=name)
                require_whole(content, picture, bits=bits, name=name)
                if picture_behind(content, picture):
                    inspection.note("only the first of several pictures in a file is read", name)
                spread_transparency(picture, bits=bits)
                yield picture, bits
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{name} has too many pixels to be a training image: resize it") from error
    except Exception as error:
        if (kind := kind_by_marks(content[:MARKS_END])) is not None:
            raise DataError(
                f"{name} is {kind}, whatever its name says, which is not read here: convert it to "
                "PNG or JPEG"
            ) from error
        # Decoders answer hostile bytes with nearly any exception (SyntaxError, struct.error,
        # OverflowError, ...); whichever it is, the file is at fault.
        raise DataError(
            f"{name} cannot be read as a picture ({type(error).__name__}): "
            "it is truncated, damaged or of another format; replace or remove it"
        ) from error


def decode_file(
    content: bytes,
    *,
    image_size: int | None,
    channels: int | None,
    name: str,
    inspection: Inspection,
) -> list[npt.NDArray[np.uint8]]:
    """The images in ``content``: those of a DICOM file or NIfTI volume, or the one picture.

    Raises:     as ``decode_picture``; NoPixels for a DICOM object that is no image.
    """
    form = {"image_size": image_size, "channels": channels}
    stored = _stored_images(content, name=name, inspection=inspection)
    if stored is None:
        return [decode_picture(content, name=name, inspection=inspection, **form)]
    images = []
    for number, image in enumerate(stored):
        inspection.saw_image(image)
        pixels = stored_bytes(image, window=inspection.window, name=name)
        images.append(conform_picture(Image.fromarray(pixels), name=f"{name} ({number})", **form))
    if len(images) > 1 and inspection.rules.group is None:
        raise DataError(
            f"{name} holds {len(images)} images of one person: set data.group, to "
            "dicom:PatientID or to file, so that they stay together"
        )
    return images


def decode_files(
    read: Sequence[Callable[[], bytes]],
    *,
    names: Sequence[str],
    image_size: int | None,
    channels: int | None,
    inspection: Inspection,
) -> DecodedFiles:
    """The images of the files behind ``read``.

    With ``inspection.rules.each_alone`` one that cannot be read is left out, and the log names it:
    an error would let one picture decide about all others. A window by percentiles is found first.

    Raises:     DataError of the first that cannot be read; NoImages when none is left.
    """
    if isinstance(inspection.rules.window, Percentiles) and inspection.window is None:
        inspection.set_window(_percentile_window(read, names=names, inspection=inspection))
    rule = inspection.rules.group
    found = DecodedFiles()
    for number, (content, name) in enumerate(zip(read, names, strict=True)):
        report("decoding pictures", number + 1, len(names))
        try:
            data = content()
            images = decode_file(
                data, image_size=image_size, channels=channels, name=name, inspection=inspection
            )
            group = file_group(data, name=name, rule=rule)
        except NoPixels:
            inspection.pass_over(name, why="DICOM object(s) without pixels")
            continue
        except DataError as error:
            if not inspection.rules.each_alone:
                raise
            inspection.leave_out(name, error)
            continue
        found.file_of.extend([number] * len(images))
        found.images.extend(images)
        found.groups.extend([group] * len(images))
    if not found.images:
        raise NoImages(f"none of {len(names)} pictures can be read: the log names each one")
    return found


def file_group(content: bytes, *, name: str, rule: GroupRule | None) -> int | None:
    """The number of the person that the file itself names; None where another rule says it.

    With data.group file two copies of a file are of one person: no copy of a member is held out.
    """
    if rule is None or rule.kind not in (GroupKind.FILE, GroupKind.DICOM):
        return None
    if rule.kind is GroupKind.FILE:
        return rule.number_of_file(content)
    try:
        value = dicom_person(content, name=name)
    except DataError:
        raise DataError(f"{name} is no DICOM file, as data.group {rule} needs") from None
    return rule.number(person(value, name=name, rule=rule))


def _stored_images(
    content: bytes, *, name: str, inspection: Inspection
) -> Iterator[StoredImage] | None:
    """The images of a medical file; None for any other."""
    suffixes = name.lower()
    if is_dicom(content) or suffixes.endswith(DICOM_SUFFIXES):
        require_medical("DICOM", name=name)
        return dicom_images(content, name=name)
    if suffixes.endswith(NIFTI_SUFFIXES) or is_nifti(content):
        require_medical("NIfTI", name=name)
        return nifti_images(content, name=name, slices=inspection.rules.slices)
    return None


def _percentile_window(
    read: Sequence[Callable[[], bytes]], *, names: Sequence[str], inspection: Inspection
) -> Window:
    """The window between two percentiles of all values behind ``read``.

    Raises:     DataError for the first file that cannot be read.
    """
    counts = ValueCounts()
    for number, (content, name) in enumerate(zip(read, names, strict=True)):
        report("counting stored values", number + 1, len(names))
        data = content()
        try:
            stored = _stored_images(data, name=name, inspection=inspection)
            if stored is None:
                counts.add(require_finite(stored_values(data, name=name), name=name))
                continue
            for image in stored:
                counts.add(require_finite(image.counted, name=name))
        except NoPixels:
            continue
    percentiles = inspection.rules.window
    if not isinstance(percentiles, Percentiles):
        raise ValueError("expected percentiles")
    return counts.window(percentiles, name=inspection.source)


def _require_one_picture(picture: Image.Image, *, name: str, inspection: Inspection) -> None:
    """Refuse several pictures in one file, unless the others are previews of the first.

    Raises:     DataError that says what the others are.
    """
    num_frames = getattr(picture, "n_frames", 1)
    if num_frames == 1:
        return
    if picture.format != "MPO":
        raise DataError(f"{name} holds {num_frames} frames: save each as a picture of its own")
    entries = picture.mpinfo[0xB002][1:]  # type: ignore[attr-defined]
    others = {entry["Attribute"]["MPType"] for entry in entries}
    if not all(kind.startswith(_PREVIEWS) for kind in others):
        raise DataError(
            f"{name} holds {num_frames} pictures of their own ({', '.join(sorted(others))}): "
            "save the one you mean as a plain JPEG"
        )
    inspection.note("pictures beside the first in a JPEG (preview, gain map) are not read", name)
