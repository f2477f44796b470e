"""Decode one picture from untrusted bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.depth import stored_bits, windowed_picture
from phoenix_secure.data.inspection import Inspection, ReadingRules
from phoenix_secure.data.pixels import conform_picture
from phoenix_secure.data.reading_progress import report
from phoenix_secure.errors import DataError, NoImages

__all__ = ["PICTURE_FORMATS", "PICTURE_SUFFIXES", "decode_picture", "decode_pictures"]

# An allow-list: Pillow would otherwise try every plugin it has, among them EPS, which starts an
# external interpreter on the file's content.
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
# Multi-picture JPEG: kinds of a second picture that show the first one again.
_PREVIEWS = ("Large Thumbnail", "Undefined")
_LFS_POINTER = b"version https://git-lfs"


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
    if not content:
        raise DataError(f"{name} is empty: remove it or copy it again")
    if content.startswith(_LFS_POINTER):
        raise DataError(f"{name} is a Git LFS pointer, no picture: run `git lfs pull`")
    inspection = inspection or Inspection(name, ReadingRules())
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
                inspection.saw_bits(bits)
                shallow = windowed_picture(
                    content, picture, bits=bits, window=inspection.rules.window, name=name
                )
                shallow.load()
                return conform_picture(shallow, image_size=image_size, channels=channels, name=name)
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{name} has too many pixels to be a training image: resize it") from error
    except Exception as error:
        # Decoders answer hostile bytes with nearly any exception (SyntaxError, struct.error,
        # OverflowError, ...); whichever it is, the file is at fault.
        raise DataError(
            f"{name} cannot be read as a picture ({type(error).__name__}): "
            "it is truncated, damaged or of another format; replace or remove it"
        ) from error


def decode_pictures(
    read: Sequence[Callable[[], bytes]],
    *,
    names: Sequence[str],
    image_size: int | None,
    channels: int | None,
    inspection: Inspection,
) -> tuple[list[int], list[npt.NDArray[np.uint8]]]:
    """The pictures behind ``read``, and which of them they are.

    With ``inspection.rules.each_alone`` one that cannot be read is left out, and the log names it:
    an error would let one picture decide about all others.

    Raises:     DataError of the first that cannot be read; NoImages when ``each_alone`` left all
                out.
    """
    kept, pictures = [], []
    for number, (content, name) in enumerate(zip(read, names, strict=True)):
        report("decoding pictures", number + 1, len(names))
        try:
            picture = decode_picture(
                content(),
                image_size=image_size,
                channels=channels,
                name=name,
                inspection=inspection,
            )
        except DataError as error:
            if not inspection.rules.each_alone:
                raise
            inspection.leave_out(name, error)
            continue
        kept.append(number)
        pictures.append(picture)
    if not kept:
        raise NoImages(f"none of {len(names)} pictures can be read: the log names each one")
    return kept, pictures


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
