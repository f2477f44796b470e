"""Tells by its first bytes what a file is that no decoder here takes for a picture."""

from __future__ import annotations

__all__ = ["MARKS_END", "kind_by_marks"]

MARKS_END = 352  # bytes: as far as the last mark below
_MARKS = (
    (128, b"DICM", "DICOM"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "NIfTI"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"jP  \r\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"),
)


def kind_by_marks(content: bytes) -> str | None:
    """What begins as ``content`` does; None where nothing known does.

    >>> kind_by_marks(b"\\0\\0\\0\\x18ftypheic...")
    'HEIC'
    """
    return next((kind for at, mark, kind in _MARKS if content.startswith(mark, at)), None)
