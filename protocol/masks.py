"""Masks: AES-256-CTR key streams added to a vector of words modulo 2^16 or 2^32.

The stream of a key is AES-256-CTR with a zero initial counter block, read as little-endian words
on every machine. Word ``i`` depends on the key and ``i`` alone, so a range can be computed from
any offset, in any order, on any thread. A key must be used for one stream only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

__all__ = [
    "CHUNK_BYTES",
    "KEY_BYTES",
    "MaskStreams",
    "Words",
    "add_mask",
    "add_masks",
    "cipher_stream",
    "in_ranges",
]

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
    _check(accumulator, masks, 0)
    if not masks:
        return
    in_ranges(
        lambda start, stop: _add_range(accumulator[start:stop], masks, start),
        num_words=accumulator.size,
        itemsize=accumulator.itemsize,
        num_masks=len(masks),
        num_threads=num_threads,
    )


def in_ranges(
    work: Callable[[int, int], None],
    *,
    num_words: int,
    itemsize: int,
    num_masks: int,
    num_threads: int,
) -> None:
    """Call ``work(start, stop)`` for ranges that together are all words, on up to ``num_threads``.

    Ranges begin at whole chunks, and are as few as starting a thread is worth.
    Raises:     ValueError for num_threads < 1; what ``work`` raises.
    """
    if num_threads < 1:
        raise ValueError(f"expected num_threads >= 1, got {num_threads}")
    chunk = CHUNK_BYTES // itemsize
    num_chunks = -(-num_words // chunk)
    worthwhile = max(1, num_words * itemsize * num_masks // _BYTES_PER_THREAD)
    num_ranges = min(num_threads, num_chunks, worthwhile)
    if num_ranges <= 1:
        work(0, num_words)
        return
    edges = [i * num_chunks // num_ranges * chunk for i in range(num_ranges)]
    # AES (cryptography >= 50) and np.add both release the GIL on chunks of this size.
    with ThreadPoolExecutor(num_ranges) as pool:
        for done in [pool.submit(work, a, b) for a, b in pairwise([*edges, num_words])]:
            done.result()


class MaskStreams:
    """The streams of several keys from word ``offset_words`` on, added to words as they come.

    Scratch memory is as long as the longest chunk so far; ``close`` overwrites it.
    Raises:     ValueError as ``add_mask``, and for a key that occurs twice: a stream used twice
                hides nothing.
    """

    def __init__(
        self, masks: Sequence[tuple[bytes, int]], *, itemsize: int, offset_words: int = 0
    ) -> None:
        if len({key for key, _ in masks}) != len(masks):
            raise ValueError("expected each mask key once")
        for _, sign in masks:
            _check_sign(sign)
        self._streams = [
            (
                cipher_stream(key, offset_bytes=offset_words * itemsize),
                np.add if sign == 1 else np.subtract,
            )
            for key, sign in masks
        ]
        self._key_stream: npt.NDArray[Any] = np.empty(0, f"<u{itemsize}")

    def add_next(self, words: Words) -> None:
        """Add the next ``words.size`` words of every stream, at most one chunk, in place."""
        if words.size > self._key_stream.size:
            self._key_stream.fill(0)
            self._key_stream = np.empty(words.size, self._key_stream.dtype)
        key_stream = self._key_stream[: words.size]
        zeros, target = memoryview(_ZEROS)[: words.nbytes], key_stream.data.cast("B")
        for stream, operation in self._streams:
            stream.update_into(zeros, target)
            operation(words, key_stream, out=words)

    def close(self) -> None:
        """Overwrite the key stream that is left in memory."""
        self._key_stream.fill(0)


def _add_range(part: Words, masks: Sequence[tuple[bytes, int]], offset_words: int) -> None:
    """All masks on one range, chunk by chunk, so that the chunk stays in the cache."""
    streams = MaskStreams(masks, itemsize=part.itemsize, offset_words=offset_words)
    length = CHUNK_BYTES // part.itemsize
    for start in range(0, part.size, length):
        streams.add_next(part[start : start + length])
    streams.close()


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
        _check_sign(sign)
    if len({key for key, _ in masks}) != len(masks):
        raise ValueError("expected each mask key once")


def _check_sign(sign: int) -> None:
    if sign not in (1, -1):
        raise ValueError(f"expected sign 1 or -1, got {sign}")
