"""The IDX format, in which MNIST and Fashion-MNIST are published."""

from __future__ import annotations

import gzip
import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import DataError

__all__ = ["parse_idx"]

_UNSIGNED_BYTE = 0x08
_MAX_DIMENSIONS = 4


def parse_idx(content: bytes, *, name: str) -> npt.NDArray[np.uint8]:
    """Decode one IDX file of unsigned bytes, gzipped or not.

    Shape:      whatever the header says, at most four dimensions; uint8.
    Guarantee:  the header is checked against the length before anything is allocated, and
                left-over bytes are refused.
    Raises:     DataError that names ``name`` for another format or a truncated file.
    Source:     LeCun, "The MNIST database", file formats: two zero bytes, the type, the number of
                dimensions, one big-endian uint32 per dimension, then the data in C order.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: damaged gzip file ({error}): fetch it again") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise DataError(f"{name}: not an IDX file of unsigned bytes: fetch it again")
    num_dimensions = content[3]
    start = 4 + 4 * num_dimensions
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS or len(content) < start:
        raise DataError(f"{name}: damaged IDX header: fetch it again")
    shape = struct.unpack(f">{num_dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{name}: the IDX header announces {math.prod(shape)} bytes, the file holds "
            f"{len(content) - start}: fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
