"""Read .npz files from outside without trusting a byte of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import DataError

__all__ = ["read_arrays"]

Arrays = dict[str, npt.NDArray[Any]]

# Real images, masks among them, stay below; deflate reaches a thousand.
_MAX_RATIO, _RATIO_FROM = 200, 1 << 28  # bytes


def read_arrays(path: Path, *, advice: str, only: Collection[str] | None = None) -> Arrays:
    """The arrays in ``path``, or those of them that ``only`` names.

    Guarantee:  no pickle is ever read; the archive's CRC-32 sums hold.
    Raises:     DataError that names the file and ends in ``advice`` when it is missing, damaged,
                truncated, no .npz archive, or holds object arrays, two arrays of one name, or one
                that unpacks beyond all measure. Arrays that ``only`` names but
                the file lacks are simply not in the answer.
    """
    if not path.is_file():
        raise DataError(f"no file at {path}: {advice}")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is not an .npz archive: {advice}")
        with archive:
            _require_plain(archive, path=path)
            wanted = archive.files if only is None else [n for n in archive.files if n in only]
            return {name: archive[name] for name in wanted}
    except DataError:
        raise
    except Exception as error:
        # zipfile, zlib and numpy's header parser answer hostile bytes with nearly any exception
        # (NotImplementedError for a version, RuntimeError for encryption, MemoryError for a
        # size); whichever it is, the file is at fault.
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds an object array, which only pickle can read, and pickle can run "
                "code: save plain numeric arrays of one dtype and shape"
            ) from error
        raise DataError(f"{path} is damaged, or no .npz archive: {advice}") from error


def _require_plain(archive: Any, *, path: Path) -> None:
    """Refuse what would be read in one of two ways, or fill the memory."""
    seen: set[str] = set()
    for name in archive.files:
        if name in seen:
            raise DataError(f"{path} holds two arrays named {name}: save each under its own name")
        seen.add(name)
    for info in archive.zip.infolist():
        if info.file_size > max(_RATIO_FROM, _MAX_RATIO * info.compress_size):
            raise DataError(
                f"{path}: {info.filename} unpacks to {info.file_size:,} bytes, more than "
                f"{_MAX_RATIO} times what is stored: save it with np.savez, which does not compress"
            )
