from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phoenix_secure.data.decode import decode_picture
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.errors import DataError


def encode(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def decode(
    content: bytes, *, image_size: int | None = None, channels: int | None = None
) -> np.ndarray:
    return decode_picture(content, image_size=image_size, channels=channels, name="scan 7.png")


COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(form: str) -> None:
    assert np.array_equal(
        decode(encode(Image.fromarray(COLOURS), form)), COLOURS.transpose(2, 0, 1)
    )


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF"])
def test_other_formats_are_read(form: str) -> None:
    assert decode(encode(Image.fromarray(COLOURS), form)).shape == (3, 8, 8)


def test_formats_off_the_list_are_refused() -> None:
    eps = encode(Image.fromarray(COLOURS), "EPS")
    with pytest.raises(DataError, match=r"scan 7\.png cannot be read"):
        decode(eps)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_another_format_under_a_known_suffix_is_named(head: bytes, kind: str) -> None:
    """Telephones and servers call HEIC and AVIF .jpg: nothing is damaged there."""
    with pytest.raises(DataError, match=rf"scan 7\.png is {kind}, .*convert it"):
        decode(head + bytes(400))


def test_more_than_8_bits_are_refused_instead_of_clipped() -> None:
    deep = Image.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8))
    with pytest.raises(DataError, match="more than 8 bits"):
        decode(encode(deep))
    with pytest.raises(DataError, match="more than 8 bits"):
        decode(encode(Image.fromarray(np.zeros((8, 8), dtype=np.float32)), "TIFF"))


def test_transparency_is_flattened_onto_white() -> None:
    clear = Image.fromarray(np.dstack([COLOURS, np.zeros((8, 8), dtype=np.uint8)]))
    assert (decode(encode(clear)) == 255).all()
    opaque = Image.fromarray(np.dstack([COLOURS, np.full((8, 8), 255, dtype=np.uint8)]))
    assert np.array_equal(decode(encode(opaque)), COLOURS.transpose(2, 0, 1))
    grey = Image.fromarray(COLOURS[:, :, 0]).convert("LA")
    assert np.array_equal(decode(encode(grey))[0], COLOURS[:, :, 0])


def test_a_picture_of_which_nothing_is_seen_is_told() -> None:
    inspection = Inspection("here", ReadingRules())
    clear = Image.fromarray(np.dstack([COLOURS, np.zeros((8, 8), dtype=np.uint8)]))
    seen = Image.fromarray(np.dstack([COLOURS, np.eye(8, dtype=np.uint8)]))
    for name, picture in (("clear", clear), ("seen", seen), ("white", Image.new("L", (8, 8), 255))):
        decode_picture(
            encode(picture), image_size=None, channels=1, name=name, inspection=inspection
        )
    assert inspection.num_told == 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_grey_that_a_png_names_transparent_is_white(bits: int) -> None:
    """Pillow brings the pixels to 0..255, and not the grey that is named."""
    rows = b"".join(bytes([0, *([0b01010101] * bits)]) for _ in range(8))
    pixels = np.unpackbits(np.frombuffer(rows[1 : 1 + bits], np.uint8)).reshape(8, bits)
    values = pixels @ (1 << np.arange(bits)[::-1])
    header = struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += chunk(b"tRNS", struct.pack(">H", values[1]))
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    wanted = np.where(values == values[1], 255, values * 255 // (2**bits - 1))
    assert (decode(content)[0] == wanted).all()


def chunk(kind: bytes, body: bytes) -> bytes:
    length, checksum = len(body), zlib.crc32(kind + body)
    return struct.pack(">I", length) + kind + body + struct.pack(">I", checksum)


def test_lab_becomes_grey_as_it_becomes_rgb() -> None:
    lab = Image.new("LAB", (8, 8), (150, 128, 128))  # neutral
    colours = decode(encode(lab, "TIFF"))
    assert np.ptp(colours) <= 2
    assert np.abs(decode(encode(lab, "TIFF"), channels=1) - colours.mean()).max() <= 1


def test_a_palette_of_8_bits_in_a_tiff_is_not_read_as_black() -> None:
    content = encode(Image.fromarray(COLOURS).quantize(), "TIFF")
    assert decode(content).mean() > 50
    with Image.open(io.BytesIO(content)) as opened:
        palette = opened.tag_v2[320]
    stored = struct.pack(f"<{len(palette)}H", *palette)
    assert stored in content
    shallow = struct.pack(f"<{len(palette)}H", *(value // 256 for value in palette))
    with pytest.raises(DataError, match="palette of 8 bits"):
        decode(content.replace(stored, shallow))


def test_pictures_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    turned = decode(encode(Image.fromarray(COLOURS), exif=exif))
    assert np.array_equal(turned, COLOURS[::-1, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("CMYK", 3)])
def test_modes_become_grey_or_rgb(mode: str, channels: int) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    form = "TIFF" if mode == "CMYK" else "PNG"
    assert decode(encode(picture, form)).shape == (channels, 8, 8)
    assert decode(encode(picture, form), channels=4 - channels).shape == (4 - channels, 8, 8)


def test_several_frames_are_refused() -> None:
    frames = [Image.fromarray(np.roll(COLOURS, i, axis=0)) for i in range(3)]
    film = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 3 frames"):
        decode(film)


def test_decompression_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (40, 20):  # over the limit warns, over twice the limit raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="too many pixels"):
            decode(encode(Image.fromarray(COLOURS)))


@given(st.data())
def test_damaged_bytes_are_a_picture_or_a_data_error(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    content = bytearray(encode(Image.fromarray(COLOURS), form))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        picture = decode(bytes(content), image_size=8, channels=3)
    except DataError as error:
        message = str(error)
    else:
        assert picture.shape == (3, 8, 8)
        return
    assert message.startswith("scan 7.png")
    assert "\n" not in message


END_MARKER = 12  # the last chunk of a PNG, after which no pixel is missing


def test_every_shortened_png_is_refused() -> None:
    content = encode(Image.fromarray(COLOURS))
    for length in range(len(content) - END_MARKER):
        with pytest.raises(DataError):
            decode(content[:length])


def test_every_changed_byte_of_a_png_is_noticed() -> None:
    content = encode(Image.fromarray(COLOURS))
    for position in range(len(content) - END_MARKER):
        changed = bytearray(content)
        changed[position] ^= 0x10
        with pytest.raises(DataError):
            decode(bytes(changed))


def test_errors_carry_no_pixels(tmp_path: Path) -> None:
    secret = b"\x89PNG\r\n\x1a\nDIAGNOSIS"
    with pytest.raises(DataError) as caught:
        decode(secret)
    assert "DIAGNOSIS" not in str(caught.value)
