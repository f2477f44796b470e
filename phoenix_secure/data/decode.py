"""Decode one picture from untrusted bytes."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.pixels import conform_picture
from phoenix_secure.errors import DataError, NoImages

__all__ = ["PICTURE_SUFFIXES", "decode_picture", "decode_pictures"]

_log = logging.getLogger(__name__)

# An allow-list: Pillow would otherwise try every plugin it has, among them EPS, which starts an
# external interpreter on the file's content.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)


def decode_picture(
    content: bytes, *, image_size: int | None, channels: int | None, name: str
) -> npt.NDArray[np.uint8]:
    """The picture in ``content`` as (C, H, W) uint8; see ``conform_picture`` for the form.

    Raises:     DataError that names ``name`` for anything that is not one whole picture: another
                format, a truncated or damaged file, several frames, a decompression bomb.
    """
    if not content:
        raise DataError(f"{name} is empty: remove it or copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # damaged metadata around whole pixels
            with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
                # A PNG's checksums, to its very end: load() alone takes one that was cut short.
                picture.verify()
            with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
                num_frames = getattr(picture, "n_frames", 1)
                if num_frames != 1:
                    raise DataError(
                        f"{name} holds {num_frames} frames: save each as a picture of its own"
                    )
                picture.load()
                return conform_picture(picture, image_size=image_size, channels=channels, name=name)
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
    each_alone: bool,
) -> tuple[list[int], list[npt.NDArray[np.uint8]]]:
    """The pictures behind ``read``, and which of them they are.

    With ``each_alone`` one that cannot be read is left out, and the log names it: an error would
    let one picture decide about all others.

    Raises:     DataError of the first that cannot be read; NoImages when ``each_alone`` left all
                out.
    """
    kept, pictures = [], []
    for number, (content, name) in enumerate(zip(read, names, strict=True)):
        try:
            picture = decode_picture(content(), image_size=image_size, channels=channels, name=name)
        except DataError as error:
            if not each_alone:
                raise
            _log.warning("left out: %s", error)
            continue
        kept.append(number)
        pictures.append(picture)
    if not kept:
        raise NoImages(f"none of {len(names)} pictures can be read: the log names each one")
    return kept, pictures
