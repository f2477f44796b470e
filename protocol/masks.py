"""Masks: AES-256-CTR key streams added to a vector of words modulo 2^16 or 2^32.

The stream of a key is AES-256-CTR with a zero initial counter block, read as little-endian words
on every machine. Word ``i`` depends on the key and ``i`` alone, so a range can be computed from
any offset, in any order, on any thread. A key must be used for one stream only.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

__all__ = ["CHUNK_BYTES", "KEY_BYTES", "Words", "add_mask", "add_masks", "cipher_stream"]

KEY_BYTES: Final = 32
# A chunk of zeros, one of key stream and one of the vector must share the second-level cache;
# below 128 KiB the cost of a Python call shows, above 256 KiB that of main memory.
CHUNK_BYTES: Final = 1 << 18

_BLOCK_BYTES = 16
# Starting a thread takes as long as about 4 MiB of key stream.
_BYTES_PER_THREAD = 1 << 22
_ZEROS: Final = bytes(CHUNK_BYTES)

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint16]


def cipher_stream(key: bytes, *, offset_bytes: int = 0) -> CipherContext:
    """AES-256-CTR under ``key``, positioned ``offset_bytes`` into its key stream.

    Source:  NIST SP 800-38A, 6.5 and B.1; the counter is the whole 128-bit block, big-endian.
    Raises:  ValueError for a key of another length than 32 bytes or a negative offset.
    """
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise ValueError(f"expected a mask key of {KEY_BYTES} bytes")
    if offset_bytes < 0:
        raise ValueError(f"expected offset >= 0, got {offset_bytes} bytes")
    block, skip = divmod(offset_bytes, _BLOCK_BYTES)
    counter = block.to_bytes(_BLOCK_BYTES, "big")
    stream = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    stream.update(bytes(skip))
    return stream


def add_mask(accumulator: Words, key: bytes, *, sign: int, offset_words: int = 0) -> None:
    """Add (``sign`` = +1) or subtract (-1) the stream of ``key`` from the words, in place.

    Shape:      (d,) uint32 or uint16, contiguous; ``accumulator[0]`` meets stream word
                ``offset_words``.
    Guarantee:  exact modulo 2^32 or 2^16; splitting the vector at any offsets changes no bit.
    Raises:     ValueError for another dtype, shape, key length, sign or a negative offset.
    """
    _check(accumulator, [(key, sign)], offset_words)
    _add_range(accumulator, [(key, sign)], offset_words)


def add_masks(
    accumulator: Words,
    masks: Sequence[tuple[bytes, int]],
    *,
    num_threads: int = 1,
) -> None:
    """Add every ``(key, sign)`` of ``masks`` to the words, in place, each from stream word 0.

    Guarantee:  bit-identical for any order of masks and any number of threads. One pass over
                the vector for all masks; 256 KiB of scratch memory per thread.
    Raises:     ValueError as ``add_mask``, and for a key that occurs twice (a stream used
                twice hides nothing) or ``num_threads`` < 1. The vector is then unchanged.
    """
    if num_threads < 1:
        raise ValueError(f"expected num_threads >= 1, got {num_threads}")
    _check(accumulator, masks, 0)
    if len({key for key, _ in masks}) != len(masks):
        raise ValueError("expected each mask key once")
    chunk = CHUNK_BYTES // accumulator.itemsize
    num_chunks = -(-accumulator.size // chunk)
    if not masks or num_chunks == 0:
        return
    worthwhile = max(1, accumulator.nbytes * len(masks) // _BYTES_PER_THREAD)
    num_ranges = min(num_threads, num_chunks, worthwhile)
    edges = [i * num_chunks // num_ranges * chunk for i in range(num_ranges + 1)]
    ranges = [(accumulator[a:b], a) for a, b in pairwise(edges)]
    if num_ranges == 1:
        _add_range(accumulator, masks, 0)
        return
    # AES (cryptography >= 50) and np.add both release the GIL on chunks of this size.
    with ThreadPoolExecutor(num_ranges) as pool:
        for done in [pool.submit(_add_range, part, masks, start) for part, start in ranges]:
            done.result()


def _add_range(part: Words, masks: Sequence[tuple[bytes, int]], offset_words: int) -> None:
    """All masks on one range, chunk by chunk, so that the chunk stays in the cache."""
    size = part.itemsize
    offset_bytes = offset_words * size
    streams = [
        (cipher_stream(key, offset_bytes=offset_bytes), np.add if sign == 1 else np.subtract)
        for key, sign in masks
    ]
    length = min(CHUNK_BYTES // size, part.size)
    key_stream: npt.NDArray[Any] = np.empty(length, dtype=f"<u{size}")
    for start in range(0, part.size, max(length, 1)):
        words = part[start : start + length]
        if words.size < length:
            key_stream = key_stream[: words.size]
        zeros, target = memoryview(_ZEROS)[: words.nbytes], key_stream.data.cast("B")
        for stream, operation in streams:
            stream.update_into(zeros, target)
            operation(words, key_stream, out=words)
    key_stream.fill(0)


def _check(accumulator: Words, masks: Sequence[tuple[bytes, int]], offset_words: int) -> None:
    dtypes = (np.dtype(np.uint32), np.dtype(np.uint16))
    if not isinstance(accumulator, np.ndarray) or accumulator.dtype not in dtypes:
        raise ValueError("expected a vector of native uint32 or uint16 words")
    flags = accumulator.flags
    if accumulator.ndim != 1 or not flags.c_contiguous or not flags.writeable:
        raise ValueError("expected a writeable contiguous vector (d,)")
    if offset_words < 0:
        raise ValueError(f"expected offset_words >= 0, got {offset_words}")
    for key, sign in masks:
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise ValueError(f"expected a mask key of {KEY_BYTES} bytes")
        if sign not in (1, -1):
            raise ValueError(f"expected sign 1 or -1, got {sign}")
