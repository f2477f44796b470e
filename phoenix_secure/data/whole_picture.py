"""Refuse files that decoders read although a part is missing, or only the first picture of."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from phoenix_secure.errors import DataError

__all__ = ["require_whole"]

_AT_ONCE = 1 << 20  # bytes
_PLAIN = (b"P1", b"P2", b"P3")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Where each pass of Adam7 begins, and its steps (PNG specification, section 8.2).
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def require_whole(content: bytes, picture: Image.Image, *, bits: int, name: str) -> None:
    """Refuse a PNG with fewer rows than its header says, of which Pillow makes black ones, and a
    PPM file with a second picture, which Pillow leaves unread.

    bits    per channel, as stored

    Raises:     DataError that names ``name``.
    """
    if picture.format == "PNG":
        if _inflated(content) < _png_size(content):
            raise DataError(f"{name} holds fewer rows than its header says: copy it again")
    elif picture.format == "PPM" and content[:2] in (*_PLAIN, b"P4", b"P5", b"P6"):
        if content[:2] in _PLAIN:
            goes_on = _plain_goes_on(content, picture)
        else:
            goes_on = bool(content[_ppm_end(picture, size=2 if bits > 8 else 1) :].strip())
        if goes_on:
            raise DataError(
                f"{name} holds more than one picture, or something behind it: save each as a file "
                "of its own"
            )


def _png_size(content: bytes) -> int:
    """Bytes of all rows, each with the byte of its filter."""
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    depth, colour, interlaced = content[24], content[25], content[28]
    size = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * depth * _PNG_CHANNELS[colour] + 7) // 8)
    return size


def _inflated(content: bytes) -> int:
    """Bytes that the compressed rows come to, a bounded part of them in memory at a time."""
    inflater, size = zlib.decompressobj(), 0
    for part in _png_data(content):
        rest: bytes = part
        while rest and not inflater.eof:
            size += len(inflater.decompress(rest, _AT_ONCE))
            rest = inflater.unconsumed_tail
    return size


def _png_data(content: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == b"IDAT":
            yield content[at + 8 : end]
        at = end + 4


def _plain_goes_on(content: bytes, picture: Any) -> bool:
    """Whether more numbers stand in a plain PPM file than its header says."""
    size = int(picture.width) * int(picture.height) * len(picture.getbands())
    rest = re.sub(rb"#[^\r\n]*", b"", content[int(picture.tile[0].offset) :])
    # The bits of P1 need no space between them.
    return len(b"".join(rest.split()) if content[:2] == b"P1" else rest.split()) > size


def _ppm_end(picture: Any, *, size: int) -> int:
    width, height = int(picture.width), int(picture.height)
    row = (width + 7) // 8 if picture.mode == "1" else width * size * len(picture.getbands())
    return int(picture.tile[0].offset) + height * int(row)
