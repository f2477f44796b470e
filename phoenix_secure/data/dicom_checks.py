"""What a DICOM file states about its pixels, checked before any decoder sees them."""

from __future__ import annotations

from typing import Any

import numpy as np

from phoenix_secure.errors import DataError

__all__ = ["DECODER", "GREY", "num_frames", "require_readable"]

DECODER = "pip install pylibjpeg-libjpeg (GPL, so not in the extra medical)"
GREY = ("MONOCHROME1", "MONOCHROME2")
_MAX_PIXELS = 1 << 27  # of one frame: what Pillow, too, takes for a bomb
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# A file around the codestream: in one whose boxes have no length pydicom searches for ever.
_JP2_FILE = b"\0\0\0\x0cjP  "


def require_readable(dataset: Any, *, name: str) -> None:
    """Refuse what cannot be read here, or would be read otherwise than the file means it.

    Raises:     DataError naming the file alone.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    kind = str(dataset.get("PhotometricInterpretation"))
    if kind not in (*GREY, *_COLOUR, "PALETTE COLOR"):
        raise DataError(
            f"{name} has a photometric interpretation that is not read here: convert it"
        )
    if (int(dataset.get("SamplesPerPixel") or 1) == 1) != (kind in (*GREY, "PALETTE COLOR")):
        raise DataError(
            f"{name} states {'one channel' if kind not in GREY else 'several channels'} and the "
            f"photometric interpretation {kind}, which contradict each other: write it again with "
            "a DICOM tool"
        )
    shape = str(dataset.get("PresentationLUTShape") or "")
    if kind in GREY and shape and (shape == "INVERSE") != (kind == "MONOCHROME1"):
        # PS3.3 C.8.11.3.1.2: one says what the other does. Viewers differ in which they believe.
        raise DataError(
            f"{name} contradicts itself on whether its least value is black or white (photometric "
            "interpretation and presentation LUT shape): repair one of them with a DICOM tool"
        )
    bits = int(dataset.get("BitsStored") or 0)
    if bits and int(dataset.get("HighBit", bits - 1)) != bits - 1:
        # pydicom would take the values as many times larger as there are bits below them.
        raise DataError(
            f"{name} keeps its values in other bits than the lowest (HighBit), which is not read "
            "here: write it again with a DICOM tool"
        )
    if ("RescaleSlope" in dataset) != ("RescaleIntercept" in dataset):
        # pydicom would leave the values as they are stored.
        raise DataError(f"{name} states one of RescaleSlope and RescaleIntercept: repair it")
    if dataset.get("RescaleSlope") is not None and float(dataset.RescaleSlope) == 0:
        raise DataError(f"{name} rescales every value to one (RescaleSlope 0): repair or remove it")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not 0 < rows * columns <= _MAX_PIXELS:
        raise DataError(f"{name} says {rows} x {columns} pixels: no image that can be trained on")
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise DataError(
            f"{name} does not say how its pixels are encoded (no transfer syntax): write it again "
            "with a DICOM tool"
        )
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if not syntax.is_encapsulated:
        frame = rows * columns * int(dataset.get("SamplesPerPixel") or 1)
        stated = frame * int(dataset.get("BitsAllocated") or 0) * num_frames(dataset) // 8
        if kind != "YBR_FULL_422" and len(dataset.PixelData) >= stated + max(2, stated):
            raise DataError(f"{name} holds more frames than it says: write it again")
        return
    if not get_decoder(syntax).is_available:
        raise DataError(f"{name} is compressed as {syntax.name}: {DECODER}, or decompress it")
    if "2000" in syntax.name:
        _require_plain_codestreams(dataset, form=(columns, rows), name=name)


def _require_plain_codestreams(dataset: Any, *, form: tuple[int, int], name: str) -> None:
    """Refuse JPEG 2000 frames that decoders would work on for minutes, or for ever."""
    import pydicom.encaps

    count = num_frames(dataset)
    for frame in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count):
        if frame.startswith(_JP2_FILE):
            raise DataError(
                f"{name} holds JP2 files in place of codestreams, against DICOM PS3.5 A.4.4: "
                "compress it again with a DICOM tool"
            )
        # ISO 15444-1 A.5.1: width, height, and where in them the picture begins
        right, bottom, left, top = np.frombuffer(frame[8:24], ">u4").tolist()
        if (right - left, bottom - top) != form:
            raise DataError(f"{name} is damaged: its frames are not of the size that it states")


def num_frames(dataset: Any) -> int:
    """How many frames the file states."""
    return int(dataset.get("NumberOfFrames") or 1)
