"""Masks a vector and packs it for the wire in one pass, chunk by chunk.

A chunk is copied, masked and packed while it lies in the cache. The vector stays as it was: another
attempt needs it again, and what is masked exists in wire form alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocol.masks import CHUNK_BYTES, MaskStreams, Words, in_ranges
from protocol.words import pack_into

__all__ = ["masked_bytes"]


def masked_bytes(
    parts: Sequence[Words],
    masks: Sequence[tuple[bytes, int]],
    *,
    word_bits: int,
    num_threads: int = 1,
) -> memoryview:
    """The wire form of the words of ``parts``, one after another, under every ``(key, sign)``.

    Shape:      each part (d_i,) uint32 or uint16, all of one dtype; d * word_bits / 8 bytes out.
    Guarantee:  the bytes of ``pack`` after ``add_masks``, for any number of threads; ``parts`` are
                only read. Scratch memory is two chunks of 256 KiB per thread.
    Raises:     ValueError as ``add_masks`` and ``pack``.
    """
    if not masks:
        raise ValueError("expected a mask at least: the words would leave in the clear")
    itemsize, size = parts[0].itemsize, word_bits // 8
    out = np.empty(sum(part.size for part in parts) * size, np.uint8)
    first = 0
    for part in parts:
        target, offset = out[first * size : (first + part.size) * size], first

        def work(
            start: int,
            stop: int,
            part: Words = part,
            target: npt.NDArray[np.uint8] = target,
            offset: int = offset,
        ) -> None:
            streams = MaskStreams(masks, itemsize=itemsize, offset_words=offset + start)
            length = CHUNK_BYTES // itemsize
            block = np.empty(min(length, stop - start), part.dtype)
            for a in range(start, stop, length):
                b = min(a + length, stop)
                words = block[: b - a]
                np.copyto(words, part[a:b])
                streams.add_next(words)
                pack_into(words, target[a * size : b * size], word_bits=word_bits)
            streams.close()

        in_ranges(
            work,
            num_words=part.size,
            itemsize=itemsize,
            num_masks=len(masks),
            num_threads=num_threads,
        )
        first += part.size
    return out.data
