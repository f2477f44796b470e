"""Decoded pictures, kept by their content, so that the next start need not decode them again.

It is a second copy of somebody's images: only whoever asks for it gets one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL

from phoenix_secure.data.archive import read_arrays
from phoenix_secure.data.inspection import ReadingRules
from phoenix_secure.errors import DataError
from phoenix_secure.files import replace_file, storage_errors

__all__ = ["Decoded", "decoded_key", "find_decoded", "keep_decoded"]

_VERSION = 2  # of what decoding does; another one reads no earlier entry
_MAX_ENTRIES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """Pictures (N, C, H, H) uint8, and the bits per channel of the deepest one as stored."""

    pixels: npt.NDArray[np.uint8]
    bits: int


def decoded_key(
    hashes: Sequence[bytes], *, image_size: int | None, channels: int | None, rules: ReadingRules
) -> str:
    """The name of an entry: of the files' contents, in their order, and all that decides about
    their pixels; no name of a file, no time and no place is in it."""
    form = (_VERSION, PIL.__version__, image_size, channels, rules.window, len(hashes))
    return hashlib.sha256(repr(form).encode() + b"".join(hashes)).hexdigest()


def find_decoded(folder: Path, key: str, *, num_images: int) -> Decoded | None:
    """The entry, or None where there is none that is whole."""
    path = folder / f"{key}.npz"
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path, advice="delete it", only=("pixels", "bits"))
        pixels, bits = arrays["pixels"], int(arrays["bits"])
    except (DataError, KeyError, ValueError, TypeError):
        return None
    is_whole = pixels.dtype == np.uint8 and pixels.ndim == 4 and len(pixels) == num_images
    return Decoded(pixels=pixels, bits=bits) if is_whole else None


def keep_decoded(folder: Path, key: str, decoded: Decoded) -> None:
    """Keep the entry, readable by its owner alone, beside at most three others.

    Raises:     StorageError for a full disk or a folder that cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, pixels=decoded.pixels, bits=np.array(decoded.bits))

    replace_file(folder / f"{key}.npz", write, mode=0o600)
    entries = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    for old in entries[:-_MAX_ENTRIES]:
        with contextlib.suppress(OSError):  # another process was quicker
            old.unlink()
