"""Pictures of more than 8 bits per channel: found by their header, read by a declared window.

Pillow keeps the high byte of 16-bit colour without a word, so that the decoded mode tells nothing.
"""

from __future__ import annotations

import io
import sys
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from phoenix_secure.data.scale import Window, apply_window, shown_window
from phoenix_secure.data.stored_image import require_finite
from phoenix_secure.errors import DataError

__all__ = [
    "deep_values",
    "spread_transparency",
    "stored_bits",
    "windowed_picture",
]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
_COLOUR_MAP = 320
_MODE_BITS = {"I": 32, "F": 32, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16}
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # offsets of two bytes of IHDR
_PNG_GREY_ALPHA, _PNG_RGBA = 4, 6
# The rawmode in which Pillow keeps the other byte of each 16-bit value.
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def stored_bits(content: bytes, picture: Image.Image, *, name: str) -> int:
    """Bits per channel of an opened picture as the file stores them.

    Raises:     DataError for signed 8-bit values, which Pillow reads as unsigned, and for a palette
                in 0..255 where TIFF says 0..65535, of which it makes black.
    """
    bits = _MODE_BITS.get(picture.mode, 1 if picture.mode == "1" else 8)
    if picture.format == "PNG":
        bits = max(bits, content[_PNG_DEPTH]) if bits > 8 else content[_PNG_DEPTH]
    elif picture.format == "TIFF":
        tags: Any = picture.tag_v2  # type: ignore[attr-defined]
        bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
        if bits <= 8 and 2 in tags.get(_SAMPLE_FORMAT, (1,)):
            raise DataError(f"{name} holds signed 8-bit values: convert it to unsigned ones")
        if 0 < max(tags.get(_COLOUR_MAP, (0,))) < 256:
            raise DataError(f"{name} has a palette of 8 bits, where TIFF has 16: convert it to RGB")
    elif picture.format == "PPM" and picture.mode not in ("1", "F"):
        bits = int(_maxval(picture)).bit_length()
    return bits


def windowed_picture(
    content: bytes, picture: Image.Image, *, bits: int, window: Window | None, name: str
) -> Image.Image:
    """``picture`` in 8 bits: itself, or its stored values mapped by ``window``.

    Guarantee:  ``apply_window`` of the stored values, exactly; transparency of deep pictures is
                flattened onto white before values are rounded.
    Raises:     DataError for more than 8 bits without a window, since choosing how to map 12- or
                16-bit values (a window, in radiology) is a decision about the data; for 8 bits with
                a window that reaches beyond them; for a deep form that cannot be read exactly.
    """
    if bits <= 8:
        if window is None:
            return picture
        return _windowed_bytes(picture, window, bits=bits, name=name)
    if window is None:
        raise DataError(
            f"{name} has more than 8 bits per channel ({bits}): convert it to 8 bits first, or set "
            "data.window to the two values that become black and white"
        )
    values = require_finite(deep_values(content, picture, name=name), name=name)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        alpha = values[..., -1:] / 65535
        low, high = window
        unit = np.clip((values[..., :-1] - low) / (high - low), 0, 1)
        mapped = apply_window(unit * alpha + 1 - alpha, (0, 1))
    else:
        mapped = apply_window(values, window)
    found = Image.fromarray(mapped[..., 0] if mapped.shape[2:] == (1,) else mapped)
    found.getexif()[ExifTags.Base.Orientation] = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return found


def spread_transparency(picture: Image.Image, *, bits: int) -> None:
    """Bring the transparent grey of a PNG to 0..255, as Pillow brings the pixels and not this."""
    grey = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode == "L" and bits < 8 and isinstance(grey, int):
        picture.info["transparency"] = grey * (255 // (2**bits - 1))


def _windowed_bytes(picture: Image.Image, window: Window, *, bits: int, name: str) -> Image.Image:
    if 1 < bits < 8 and window != (0, 255):
        raise DataError(
            f"{name} has {bits} bits per channel, which are brought to 0..255 when they are read: "
            "leave data.window out, or convert the picture to 8 bits"
        )
    if window[0] < 0 or window[1] > 255:
        raise DataError(
            f"{name} has 8 bits per channel, where data.window {shown_window(window)} is for more: "
            "read pictures of one depth at a time"
        )
    if picture.has_transparency_data or picture.mode not in ("1", "L", "RGB"):
        raise DataError(
            f"{name} (mode {picture.mode}) cannot be read with data.window: "
            "convert it to grey or RGB without transparency"
        )
    if picture.mode == "1":
        picture = picture.convert("L")
    table = apply_window(np.arange(256), window).tolist()
    return picture.point(table * len(picture.getbands()))


def deep_values(content: bytes, picture: Image.Image, *, name: str) -> npt.NDArray[Any]:
    """The stored values (H, W) or (H, W, C), C with alpha last.

    Raises:     DataError for a form that cannot be read exactly.
    """
    unreadable = DataError(
        f"{name} ({picture.format}, mode {picture.mode}) cannot be read exactly with data.window: "
        "convert it to 16-bit grey or RGB PNG, or to 8 bits"
    )
    if "transparency" in picture.info or (picture.format, picture.mode) == ("PPM", "F"):
        raise unreadable
    if picture.format == "PPM":
        return _ppm_values(content, picture)
    if picture.format == "TIFF":
        tags: Any = picture.tag_v2  # type: ignore[attr-defined]
        if tags.get(_PHOTOMETRIC) == 0 or (tags.get(_PLANAR) == 2 and len(picture.getbands()) > 1):
            raise unreadable
        if picture.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1:
            return np.asarray(picture).view(np.uint32)
    if picture.mode in _MODE_BITS:
        return np.asarray(picture)
    if picture.format == "PNG" and content[_PNG_COLOUR] == _PNG_GREY_ALPHA:
        return _grey_alpha_values(content)
    rawmode = _rawmode(picture)
    if picture.mode not in ("RGB", "RGBA") or ";16" not in rawmode or rawmode.startswith("RGBa"):
        raise unreadable
    other = Image.open(io.BytesIO(content), formats=(str(picture.format),))
    other_mode = rawmode[:-1] + _OTHER_BYTE[rawmode[-1]]
    other.tile = [tile._replace(args=_with_rawmode(tile.args, other_mode)) for tile in other.tile]
    high, low = (np.asarray(each).astype(np.int32) for each in (picture, other))
    return high * 256 + low


def _rawmode(picture: Any) -> str:
    args = picture.tile[0].args
    return str(args if isinstance(args, str) else args[0])


def _with_rawmode(args: Any, rawmode: str) -> Any:
    return rawmode if isinstance(args, str) else (rawmode, *args[1:])


def _grey_alpha_values(content: bytes) -> npt.NDArray[Any]:
    """16-bit grey and alpha are the four bytes of a pixel that 8-bit RGBA has."""
    header = bytearray(content[12:29])
    header[_PNG_DEPTH - 12], header[_PNG_COLOUR - 12] = 8, _PNG_RGBA
    patched = content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]
    with Image.open(io.BytesIO(patched), formats=("PNG",)) as opened:
        pairs = np.asarray(opened).astype(np.int32)
    return pairs[..., 0::2] * 256 + pairs[..., 1::2]


def _maxval(picture: Any) -> int:
    args = picture.tile[0].args
    if isinstance(args, str):
        return 65535 if ";16" in args else 255
    return int(args[1])


def _ppm_values(content: bytes, picture: Any) -> npt.NDArray[Any]:
    tile = picture.tile[0]
    bands = 1 if picture.mode == "I" else 3
    count = picture.width * picture.height * bands
    if tile.codec_name == "ppm_plain":
        values = np.array(content[tile.offset :].split()[:count], np.int64)
    else:
        values = np.frombuffer(content, ">u2", count=count, offset=tile.offset)
    shape = (picture.height, picture.width, bands)
    return values.reshape(shape[:2] if bands == 1 else shape)
