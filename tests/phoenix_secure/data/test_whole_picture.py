"""Files that decoders read although rows are missing, or only the first picture of, are refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from phoenix_secure.data.decode import decode_picture
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.errors import DataError

# The pass of Adam7 that each pixel of an 8 x 8 tile is in, as the PNG specification draws it.
TILE = (
    *("16462646", "77777777", "56565656", "77777777"),
    *("36463646", "77777777", "56565656", "77777777"),
)
FORMS = [(1, 0), (2, 0), (4, 0), (8, 0), (8, 2), (8, 4), (8, 6), (4, 3), (8, 3)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int, colour: int, interlaced: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    packed = zlib.compress(rows)
    half = len(packed) // 2
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", bytes(768)),
            chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b""),
        ]
    )


def size_of_rows(width: int, height: int, *, bits: int, interlaced: int) -> int:
    """By looking at every pixel."""
    rows: dict[tuple[str, int], int] = {}
    for y in range(height):
        for x in range(width):
            key = TILE[y % 8][x % 8] if interlaced else "", y
            rows[key] = rows.get(key, 0) + bits
    return sum(1 + -(-bits_of_row // 8) for bits_of_row in rows.values())


@given(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from(FORMS), st.integers(0, 1), st.booleans()
)
def test_a_png_has_all_the_rows_that_its_header_says(
    width: int, height: int, form: tuple[int, int], interlaced: int, is_short: bool
) -> None:
    depth, colour = form
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    size = size_of_rows(width, height, bits=bits, interlaced=interlaced)
    content = png(
        width, height, depth=depth, colour=colour, interlaced=interlaced,
        rows=bytes(size - is_short),
    )  # fmt: skip
    if is_short:
        with pytest.raises(DataError, match=r"a\.png (holds fewer rows|cannot be read)"):
            decode_picture(content, image_size=None, channels=None, name="a.png")
    else:
        decode_picture(content, image_size=None, channels=None, name="a.png")


def test_rows_that_are_missing_at_the_end_are_missed() -> None:
    """Pillow alone makes black ones."""
    rows = (b"\0" + bytes([200] * 8)) * 5
    content = png(8, 8, depth=8, colour=0, interlaced=0, rows=rows)
    with pytest.raises(DataError, match="fewer rows than its header says"):
        decode_picture(content, image_size=None, channels=None, name="a.png")


@pytest.mark.parametrize(
    "content",
    [
        b"P4 8 4\n" + bytes(4),
        b"P5 8 8 255\n" + bytes(range(64)),
        b"P5 8 8 15\n" + bytes(64),
        b"P6 8 8 255\n" + bytes(192),
        b"P1 8 8\n" + b"01 1" * 21 + b"1 # the last\n",
        b"P2 8 8 255\n" + b"7 " * 64,
        b"P3 8 8 255\n" + b"7\n" * 192,
    ],
)
def test_a_second_picture_in_a_ppm_file_is_refused(content: bytes) -> None:
    """Netpbm's own tools write several into one file; Pillow reads the first."""
    form = {"image_size": 8, "channels": 1}
    alone = decode_picture(content, name="a.ppm", **form)
    assert np.array_equal(decode_picture(content + b"\n", name="a.ppm", **form), alone)
    with pytest.raises(DataError, match="more than one picture"):
        decode_picture(content + content, name="a.ppm", **form)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (16, 16, 4), np.uint8), "RGBA").convert(mode)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("behind", [saved("PNG"), saved("JPEG"), b"\n\0" + saved("TIFF")])
def test_a_second_picture_behind_a_png_is_refused(behind: bytes) -> None:
    first = saved("PNG")
    form = {"image_size": 16, "channels": 3, "name": "a.png"}
    decode_picture(first + b"\0" * 700, **form)
    with pytest.raises(DataError, match="holds a second picture"):
        decode_picture(first + behind, **form)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_a_picture_behind_a_jpeg_is_told(options: dict[str, object]) -> None:
    """Cameras leave previews there; which one is meant cannot be known."""
    thumbnail = b"Exif\0\0" + saved("JPEG")[:600] + b"\xff\xd9\xff\xd8\xff"
    first = saved("JPEG", exif=thumbnail, **options)
    told = []
    for content in (first, first + b"\0 trailer of a program", first + saved("JPEG")):
        inspection = Inspection("here", ReadingRules())
        decode_picture(content, image_size=16, channels=3, name="a", inspection=inspection)
        told.append(inspection.num_told)
    assert told == [0, 0, 1]


def test_a_channel_that_is_neither_colour_nor_transparency_is_refused() -> None:
    form = {"image_size": 16, "channels": 3, "name": "a.tif"}
    decode_picture(saved("TIFF"), **form)
    decode_picture(saved("TIFF", "RGBA"), **form)
    file, tags = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    tags[338] = 0  # ExtraSamples: unspecified
    Image.frombytes("RGBX", (16, 16), bytes(1024)).save(file, "TIFF", tiffinfo=tags)
    with pytest.raises(DataError, match=r"a\.tif has 4 channels"):
        decode_picture(file.getvalue(), **form)
