"""Refuse files that decoders read although a part is missing, or only a part of."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

from phoenix_secure.errors import DataError

__all__ = ["picture_behind", "require_whole"]

_AT_ONCE = 1 << 20  # bytes
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)  # any marker but a restart
_PLAIN = (b"P1", b"P2", b"P3")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
_SAMPLES = 277  # TIFF tag
# Where each pass of Adam7 begins, and its steps (PNG specification, section 8.2).
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def require_whole(content: bytes, picture: Image.Image, *, bits: int, name: str) -> None:
    """Refuse a PNG with fewer rows than its header says, of which Pillow makes black ones; a PNG or
    PPM file with a second picture, and a TIFF with a channel beyond colour and transparency, which
    Pillow leaves unread.

    bits    per channel, as stored

    Raises:     DataError that names ``name``.
    """
    if picture.format == "PNG":
        if _inflated(content) < _png_size(content):
            raise DataError(f"{name} holds fewer rows than its header says: copy it again")
        if _is_picture(content[_png_end(content) :]):
            raise DataError(f"{name} holds a second picture: save each as a file of its own")
    elif picture.format == "TIFF":
        bands = picture.getbands()
        samples = picture.tag_v2.get(_SAMPLES, 1)  # type: ignore[attr-defined]
        if "X" in bands or samples > len(bands):
            raise DataError(
                f"{name} has {samples} channels, more than colour and transparency: save those "
                "that are meant alone"
            )
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


def picture_behind(content: bytes, picture: Image.Image) -> bool:
    """Whether behind a JPEG's end another picture stands, which its own index does not list."""
    return picture.format == "JPEG" and _is_picture(content[_jpeg_end(content) :])


def _is_picture(rest: bytes) -> bool:
    return rest[:256].lstrip(b"\0 \r\n").startswith(_SIGNATURES)


def _jpeg_end(content: bytes) -> int:
    """Where the marker of the end stands behind all segments and scans (ITU-T T.81, annex B)."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker == 0xFF:  # a byte to fill up
            at += 1
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xDA:  # coded rows follow; in them a zero stands behind every 0xFF
            found = _IN_SCAN.search(content, at)
            at = len(content) if found is None else found.start()
    return len(content)


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


def _png_end(content: bytes) -> int:
    at = 8
    while at + 8 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == b"IEND":
            return end
        at = end
    return len(content)


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
