"""More than 8 bits per channel: refused by name, or mapped exactly by a declared window.

The files are written here byte by byte, so that the stored values are known.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.data.decode import decode_picture
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.scale import apply_window, to_bytes
from phoenix_secure.errors import DataError

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
RAMP = np.linspace(0, 1, 16 * 16).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, 1 - RAMP], -1)
TWELVE_BITS = np.rint(COLOUR * 4095).astype(np.int64)


ADAM7 = (  # first row and column, and step, of each pass
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)),
    (1, 0, 2, 1),
)


def filtered(rows: np.ndarray, *, bytes_per_pixel: int) -> bytes:
    """Every other row as differences to the pixel on its left (filter type 1)."""
    written = b""
    for number, row in enumerate(rows):
        stored = np.frombuffer(row.astype(">u2").tobytes(), np.uint8)
        if number % 2:
            left = np.concatenate([np.zeros(bytes_per_pixel, np.uint8), stored[:-bytes_per_pixel]])
            stored = stored - left
        written += bytes([number % 2]) + stored.tobytes()
    return written


def png16(values: np.ndarray, colour_type: int, *, interlaced: bool = False) -> bytes:
    height, width = values.shape[:2]
    size = 2 * values[0, 0].size
    passes = [values[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [values]
    rows = b"".join(filtered(part, bytes_per_pixel=size) for part in passes)

    def chunk(kind: bytes, body: bytes) -> bytes:
        length, checksum = len(body), zlib.crc32(kind + body)
        return struct.pack(">I", length) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff16(
    values: np.ndarray, *, order: str = "<", planar: int = 1, deflated: bool = False
) -> bytes:
    height, width, bands = values.shape
    stored = values.transpose(2, 0, 1) if planar == 2 else values
    data = stored.astype(f"{order}u2").tobytes()
    if deflated:
        data = zlib.compress(data)
    short, long = 3, 4
    tags = [
        *((256, short, width), (257, short, height), (258, short, None)),
        (259, short, 8 if deflated else 1),
        *((262, short, 2), (273, long, None), (277, short, bands), (278, short, height)),
        *((279, long, len(data)), (284, short, planar)),
    ]
    after = 8 + 2 + 12 * len(tags) + 4
    bits = struct.pack(order + "H" * bands, *([16] * bands))
    body = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, kind, value in tags:
        if tag == 258:
            value = after if bands > 2 else 16
            count = bands
        else:
            count = 1
            value = after + len(bits) if tag == 273 else value
        body += struct.pack(order + "HHI", tag, kind, count)
        is_short = kind == short and count == 1
        body += struct.pack(
            order + ("HH" if is_short else "I"), *((value, 0) if is_short else (value,))
        )
    return body + struct.pack(order + "I", 0) + bits + data


def ppm16(values: np.ndarray, *, maxval: int = 65535, plain: bool = False) -> bytes:
    bands = 1 if values.ndim == 2 else 3
    magic = {(1, False): "P5", (3, False): "P6", (1, True): "P2", (3, True): "P3"}[bands, plain]
    height, width = values.shape[:2]
    head = f"{magic}\n{width} {height}\n{maxval}\n".encode()
    if plain:
        return head + " ".join(str(v) for v in values.ravel()).encode() + b"\n"
    return head + values.astype(">u2").tobytes()


def pillow(values: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


def decode(content: bytes, window: tuple[float, float] | None = None) -> np.ndarray:
    inspection = Inspection("here", ReadingRules(window=window))
    return decode_picture(
        content, image_size=None, channels=None, name="scan 7", inspection=inspection
    )


def expected(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The definition, value by value."""
    flat = [round(255 * min(max((v - low) / (high - low), 0), 1)) for v in values.ravel().tolist()]
    bytes_ = np.array(flat, np.uint8).reshape(values.shape)
    return bytes_[np.newaxis] if values.ndim == 2 else bytes_.transpose(2, 0, 1)


OPAQUE = np.full((16, 16, 1), 65535)
GREY_12 = TWELVE_BITS[..., 0]
FILES: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "rgb png": (lambda: png16(TWELVE_BITS, RGB), TWELVE_BITS),
    "rgba png": (lambda: png16(np.dstack([TWELVE_BITS, OPAQUE]), RGBA), TWELVE_BITS),
    "grey png": (lambda: png16(GREY_12, GREY), GREY_12),
    "grey and alpha png": (lambda: png16(np.dstack([GREY_12, OPAQUE]), GREY_ALPHA), GREY_12),
    "rgb tiff": (lambda: tiff16(TWELVE_BITS), TWELVE_BITS),
    "big-endian rgb tiff": (lambda: tiff16(TWELVE_BITS, order=">"), TWELVE_BITS),
    "deflated rgb tiff": (lambda: tiff16(TWELVE_BITS, deflated=True), TWELVE_BITS),
    "deflated big-endian rgb tiff": (
        lambda: tiff16(TWELVE_BITS, order=">", deflated=True),
        TWELVE_BITS,
    ),
    "interlaced rgb png": (lambda: png16(TWELVE_BITS, RGB, interlaced=True), TWELVE_BITS),
    "interlaced grey and alpha png": (
        lambda: png16(np.dstack([GREY_12, OPAQUE]), GREY_ALPHA, interlaced=True),
        GREY_12,
    ),
    "grey tiff": (lambda: pillow(GREY_12.astype(np.uint16), "TIFF"), GREY_12),
    "32-bit tiff": (lambda: pillow(GREY_12.astype(np.int32), "TIFF"), GREY_12),
    "float tiff": (lambda: pillow(GREY_12.astype(np.float32), "TIFF"), GREY_12),
    "ppm": (lambda: ppm16(TWELVE_BITS), TWELVE_BITS),
    "ppm of 12 bits": (lambda: ppm16(TWELVE_BITS, maxval=4095), TWELVE_BITS),
    "plain ppm": (lambda: ppm16(TWELVE_BITS, maxval=4095, plain=True), TWELVE_BITS),
    "pgm": (lambda: ppm16(GREY_12), GREY_12),
    "pgm of 12 bits": (lambda: ppm16(GREY_12, maxval=4095), GREY_12),
}


@pytest.mark.parametrize("kind", FILES)
def test_deep_pictures_are_refused_by_name_without_a_window(kind: str) -> None:
    make, _ = FILES[kind]
    with pytest.raises(DataError, match=r"scan 7 has more than 8 bits.*data\.window"):
        decode(make())


def test_the_full_range_is_no_exception() -> None:
    full = np.rint(COLOUR * 65535).astype(np.int64)
    for content in (png16(full, RGB), png16(np.dstack([full, OPAQUE]), RGBA)):
        with pytest.raises(DataError, match="more than 8 bits"):
            decode(content)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("window", [(0, 4095), (100, 900), (-50.5, 5000)])
def test_a_window_maps_the_stored_values_exactly(kind: str, window: tuple[float, float]) -> None:
    make, values = FILES[kind]
    assert np.array_equal(decode(make(), window), expected(values, *window))


@given(st.integers(0, 2**32 - 1), st.sampled_from([RGB, GREY_ALPHA, RGBA]))
def test_every_16_bit_value_of_a_png_survives(seed: int, colour_type: int) -> None:
    channels = {RGB: 3, GREY_ALPHA: 1, RGBA: 3}[colour_type]
    values = np.random.default_rng(seed).integers(0, 2**16, (5, 5, channels))
    stored = values if colour_type == RGB else np.dstack([values, OPAQUE[:5, :5]])
    shown = values[..., 0] if channels == 1 else values
    assert np.array_equal(
        decode(png16(stored, colour_type), (1000, 60000)), expected(shown, 1000, 60000)
    )


def test_transparency_of_a_deep_picture_is_flattened_onto_white() -> None:
    grey = np.full((4, 4, 1), 1000)
    clear, half = np.zeros((4, 4, 1)), np.full((4, 4, 1), 32768)
    assert (decode(png16(np.dstack([grey, clear]), GREY_ALPHA), (0, 4000)) == 255).all()
    mixed = 255 * (0.25 * 32768 / 65535 + 1 - 32768 / 65535)
    assert (decode(png16(np.dstack([grey, half]), GREY_ALPHA), (0, 4000)) == round(mixed)).all()


def test_forms_that_would_be_read_wrongly_are_refused_even_with_a_window() -> None:
    inverted = Image.fromarray(GREY_12.astype(np.uint16))
    buffer = io.BytesIO()
    inverted.save(buffer, "TIFF", tiffinfo={262: 0})
    for content in (buffer.getvalue(), tiff16(TWELVE_BITS, planar=2)):
        with pytest.raises(DataError, match=r"scan 7 .*cannot be read exactly"):
            decode(content, (0, 4095))


def test_8_bit_pictures_under_a_window() -> None:
    shallow = pillow((COLOUR * 255).astype(np.uint8), "PNG")
    with pytest.raises(DataError, match=r"8 bits per channel, where data\.window \[0, 4095\]"):
        decode(shallow, (0, 4095))
    values = (COLOUR * 255).astype(np.uint8).astype(int)
    assert np.array_equal(decode(shallow, (50, 200)), expected(values, 50, 200))


@pytest.mark.parametrize("maxval", [3, 15, 100])
def test_fewer_bits_under_a_window_are_refused(maxval: int) -> None:
    """They are brought to 0..255 while they are read: a window of stored values makes white."""
    values = (RAMP * maxval).astype(np.uint8)
    content = f"P5 16 16 {maxval}\n".encode() + values.tobytes()
    whole = decode(content)
    assert whole.max() == 255
    with pytest.raises(DataError, match=r"bits per channel, which are brought to 0\.\.255"):
        decode(content, (0, maxval))
    assert np.array_equal(decode(content, (0, 255)), whole)


def test_orientation_holds_for_deep_pictures() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    Image.fromarray(GREY_12.astype(np.uint16)).save(buffer, "PNG", exif=exif)
    found = decode(buffer.getvalue(), (0, 4095))
    assert np.array_equal(found, expected(GREY_12[::-1, ::-1], 0, 4095))


def test_nan_in_a_float_picture_is_refused() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        decode(pillow(values, "TIFF"), (0, 1))


def test_the_inventory_knows_the_stored_bits() -> None:
    inspection = Inspection("here", ReadingRules(window=(0, 65535)))
    decode_picture(
        png16(TWELVE_BITS, RGB), image_size=None, channels=None, name="x", inspection=inspection
    )
    assert inspection._bits == 16


FLOATS = np.tile(np.arange(8) / 7, (6, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("strange", [-1e-7, 1.0000001, -0.5, -0.83, 1.01, -1.0001])
def test_floats_beside_the_known_ranges_are_refused_with_both_readings(strange: float) -> None:
    images = FLOATS.copy()
    images[0, 0, 0] = strange
    with pytest.raises(DataError, match=r"\[0, 1\] .* \[-1, 1\].*data\.window"):
        to_bytes(images, window=None, name="d.npz")


def test_a_window_says_which_reading_is_meant() -> None:
    images = np.where(np.arange(8) == 0, -1e-7, FLOATS)
    pixels, scale = to_bytes(images, window=(0, 1), name="d.npz")
    assert pixels[0, 0].tolist() == [round(255 * i / 7) for i in range(8)]
    assert "[0, 1]" in scale
    pixels, _ = to_bytes(images, window=(-1, 1), name="d.npz")
    just_below_half = 127
    upper = [round(127.5 * (i / 7 + 1)) for i in range(1, 8)]
    assert pixels[0, 0].tolist() == [just_below_half, *upper]


def test_floats_divided_twice_are_refused() -> None:
    with pytest.raises(DataError, match="black images on the scale"):
        to_bytes(FLOATS / 255, window=None, name="d")


def test_negative_zero_is_zero() -> None:
    images = np.where(np.arange(8) == 0, -0.0, FLOATS)
    assert to_bytes(images, window=None, name="d")[0].max() == 255


def test_few_bits_in_a_wide_integer_are_refused_unless_said() -> None:
    four_bits = np.arange(17, dtype=np.int64).repeat(16)[:256].reshape(1, 16, 16)
    with pytest.raises(DataError, match="fewer bits"):
        to_bytes(four_bits, window=None, name="d")
    assert to_bytes(four_bits.astype(np.uint8), window=None, name="d")[0].max() == four_bits.max()
    assert to_bytes(four_bits, window=(0, 15), name="d")[0].max() == 255


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), st.floats(-1e3, 1e3), st.floats(1, 1e3)
)
def test_the_window_is_its_formula(values: list[float], low: float, width: float) -> None:
    found = apply_window(np.array(values), (low, low + width))
    high = low + width
    assert found.tolist() == [round(255 * min(max((v - low) / (high - low), 0), 1)) for v in values]
