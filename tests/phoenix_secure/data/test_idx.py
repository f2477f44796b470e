from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phoenix_secure.data.idx import parse_idx
from phoenix_secure.errors import DataError


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=5)), st.booleans())
def test_arrays_come_back_gzipped_or_not(array: np.ndarray, zipped: bool) -> None:
    content = gzip.compress(idx(array), mtime=0) if zipped else idx(array)
    assert np.array_equal(parse_idx(content, name="f"), array)


WHOLE = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    "content",
    [
        *[WHOLE[:length] for length in range(len(WHOLE))],
        WHOLE + b"\0",
        b"\0\0\x09" + WHOLE[3:],  # signed bytes
        b"\1" + WHOLE[1:],
        bytes((0, 0, 8, 0)),
        bytes((0, 0, 8, 255)) + WHOLE[4:],
        bytes((0, 0, 8, 4)) + b"\xff" * 16,  # announces 2**128 bytes
        gzip.compress(WHOLE, mtime=0)[:-9],  # a time in it would name the test anew in each worker
        b"\x1f\x8b junk",
    ],
)
def test_damaged_files_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match=r"train images:.*fetch it again"):
        parse_idx(content, name="train images")
