"""Images out of DICOM files: modality LUT, window, photometric interpretation, frames.

Of a file only its pixels, their spacing and, where ``data.group`` asks for it, PatientID are looked
at. No value of another element is in anything that this module returns, raises or logs: pydicom's
own messages, which quote values, are kept from the log and from the chain of exceptions.

Source:     DICOM PS3.3 2024, C.7.6.3 (pixels), C.11.1 (modality LUT), C.11.2 (window).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.dicom_checks import DECODER, GREY, num_frames, require_readable
from phoenix_secure.data.stored_image import FileWindow, StoredImage
from phoenix_secure.errors import DataError

__all__ = ["NoPixels", "dicom_images", "dicom_person", "is_dicom"]

_MAX_INFLATED = 1 << 31  # bytes
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MARK = slice(128, 132)


class NoPixels(DataError):  # noqa: N818 - what the file is, not what went wrong
    """A DICOM object that holds no image: a report, a plan, a directory of other files."""


def is_dicom(content: bytes) -> bool:
    """Whether ``content`` begins as a DICOM file does."""
    return content[_MARK] == b"DICM"


def dicom_person(content: bytes, *, name: str) -> str | None:
    """PatientID as it stands in the file.

    Raises:     DataError naming the file alone.
    """
    with _quietly(name):
        value = _dataset(content, name=name, with_pixels=False).get("PatientID")
        return None if value is None else str(value)


def dicom_images(content: bytes, *, name: str) -> Iterator[StoredImage]:
    """The frames of one file, in their order.

    Guarantee:  values are those after the modality LUT (or rescale slope and intercept), in float64
                where there is one; YBR and palettes are RGB; the window is the first of the frame,
                LINEAR, LINEAR_EXACT or SIGMOID, or the first VOI LUT. One frame at a time is held.
    Raises:     NoPixels; DataError naming the file alone for one that is damaged, in a transfer
                syntax or of a kind that cannot be read here, with the fix.
    """
    with _quietly(name):
        dataset = _dataset(content, name=name, with_pixels=True)
        if "PixelData" not in dataset:
            kind = _kind(dataset)
            if not kind or "Image Storage" in kind:
                raise DataError(f"{name} is a DICOM file cut short, or damaged: copy it again")
            raise NoPixels(f"{name} is a DICOM object without pixels")
        require_readable(dataset, name=name)
        pixels = _pixels().iter_pixels(dataset)
        count = num_frames(dataset)
    for number in range(count):
        with _quietly(name):
            values = _next_frame(pixels, dataset, name=name)
            image = _image(values, dataset, frame=number)
        yield image


def _kind(dataset: Any) -> str:
    """The name of the object's class, which stands first in a file; empty where it has none."""
    meta = getattr(dataset, "file_meta", {})
    kind = dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    return str(getattr(kind, "name", ""))


def _next_frame(pixels: Iterator[Any], dataset: Any, *, name: str) -> npt.NDArray[Any]:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        values = next(pixels, None)
    except Exception as error:
        if not syntax.is_encapsulated:
            raise
        raise DataError(
            f"{name}, compressed as {syntax.name}, cannot be decoded here "
            f"({type(error).__name__}): it is damaged, or needs {DECODER}"
        ) from None
    if values is None:
        raise DataError(f"{name} holds fewer frames than it says: copy it again")
    return np.asarray(values)


def _image(values: npt.NDArray[Any], dataset: Any, *, frame: int) -> StoredImage:
    kind, bits = str(dataset.PhotometricInterpretation), int(dataset.BitsStored)
    functional = _functional_groups(dataset, frame)
    spacing = _spacing([_item(functional, "PixelMeasuresSequence"), dataset])
    if kind == "PALETTE COLOR":
        entries, first, _ = dataset.RedPaletteColorLookupTableDescriptor
        whole = np.arange(first, first + (entries or 1 << 16), dtype=np.int32)
        # Entries of 8 bits are kept in words of 16, too, whatever the descriptor says.
        is_deep = _pixels().apply_color_lut(whole, dataset).max() > 255
        values = _pixels().apply_color_lut(values, dataset)
        values = np.rint(values.astype(np.float64) / (257 if is_deep else 1)).astype(np.uint8)
        return StoredImage(values=values, bits=8, is_bytes=True, spacing_mm=spacing)
    if kind not in GREY:
        return StoredImage(values=values, bits=bits, is_bytes=bits == 8, spacing_mm=spacing)
    stored = values
    transformation = _item(functional, "PixelValueTransformationSequence")
    values = _pixels().apply_modality_lut(
        stored, dataset if transformation is None else transformation
    )
    is_rescaled = values is not stored and not np.array_equal(values, stored)
    own = _own_window(values, [_item(functional, "FrameVOILUTSequence"), dataset])
    return StoredImage(
        values=values,
        bits=bits,
        is_bytes=bits == 8 and not is_rescaled and stored.dtype == np.uint8,
        is_inverted=kind == "MONOCHROME1",
        window=own,
        spacing_mm=spacing,
        padding=_padding(stored, dataset),
    )


def _own_window(values: npt.NDArray[Any], places: list[Any]) -> FileWindow | None:
    """The first window or VOI LUT of the frame, else of the file."""
    for place in places:
        if place is None:
            continue
        if "VOILUTSequence" in place and len(place.VOILUTSequence):
            entries = _pixels().apply_voi(values.astype(np.int64), place)
            bits = int(place.VOILUTSequence[0].LUTDescriptor[2])
            scaled = np.clip(entries.astype(np.float64) * (255 / (2**bits - 1)), 0, 255)
            return FileWindow(lut=np.rint(scaled).astype(np.uint8))
        centre, width = _first(place.get("WindowCenter")), _first(place.get("WindowWidth"))
        if centre is None or width is None or not width > 0:
            continue
        function = str(place.get("VOILUTFunction") or "LINEAR")
        if function == "LINEAR":  # C.11.2.1.2.1
            half = (width - 1) / 2
            return FileWindow(low=centre - 0.5 - half, high=centre - 0.5 + half)
        return FileWindow(
            low=centre - width / 2, high=centre + width / 2, is_sigmoid=function == "SIGMOID"
        )
    return None


def _padding(stored: npt.NDArray[Any], dataset: Any) -> npt.NDArray[np.bool_] | None:
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, last if isinstance(last, int) else value))
    return (stored >= low) & (stored <= high)


def _spacing(places: list[Any]) -> tuple[float, float] | None:
    for place in places:
        for name in ("PixelSpacing", "ImagerPixelSpacing"):
            found = None if place is None else place.get(name)
            if found is not None and len(found) == 2:
                return float(found[0]), float(found[1])
    return None


def _functional_groups(dataset: Any, frame: int) -> list[Any]:
    """Where an enhanced object may say something of this frame: of it alone first, then of all."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*own[frame : frame + 1], *shared[:1]]


def _item(groups: list[Any], sequence: str) -> Any:
    found = [group[sequence].value for group in groups if sequence in group]
    return next((items[0] for items in found if len(items)), None)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value)


def _dataset(content: bytes, *, name: str, with_pixels: bool) -> Any:
    dcmread = _import().dcmread
    _require_bounded(content, name=name)
    wanted = None if with_pixels else ["PatientID"]
    dataset = dcmread(
        io.BytesIO(content), force=True, stop_before_pixels=not with_pixels, specific_tags=wanted
    )
    is_one = is_dicom(content) or "Rows" in dataset or "SOPClassUID" in dataset
    if with_pixels and not is_one:
        raise DataError(f"{name} is no DICOM file: copy it again, or remove it")
    return dataset


def _require_bounded(content: bytes, *, name: str) -> None:
    """Refuse a deflated file that grows beyond all bounds, before pydicom inflates it whole."""
    # The length of the file's meta information stands first in it (PS3.10 7.1).
    begin = _MARK.stop + 12
    end = begin + int.from_bytes(content[begin - 4 : begin], "little")
    if not is_dicom(content) or _DEFLATED not in content[begin:end]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated, rest = 0, content[end:]
    while rest and not inflater.eof:
        inflated += len(inflater.decompress(rest, 1 << 24))
        rest = inflater.unconsumed_tail
        if inflated > _MAX_INFLATED:
            raise DataError(f"{name} inflates to more than {_MAX_INFLATED:,} bytes: decompress it")


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
    """No message of pydicom's leaves: they quote values of elements."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name} cannot be read as DICOM ({type(error).__name__}): it is truncated, damaged or "
            "of a kind that is not read here; replace or remove it"
        ) from None
    finally:
        logger.setLevel(before)


def _import() -> Any:
    import pydicom.encaps

    return pydicom


def _pixels() -> Any:
    import pydicom.pixels

    return pydicom.pixels
