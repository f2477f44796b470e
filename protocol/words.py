"""Words of 16, 24 or 32 bits: integers modulo 2^b in memory, on the wire, and centred again.

16-bit words are uint16 in memory, 24- and 32-bit words uint32. Sums are taken modulo the width in
memory; keeping the low three bytes of each word afterwards is the ring map from Z/2^32 to Z/2^24,
so a 24-bit vector costs 3 bytes per word on the wire and no arithmetic of its own.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.masks import Words

__all__ = ["WORD_BITS", "centre", "pack", "pack_into", "to_words", "unpack", "word_dtype"]

WORD_BITS: Final = (16, 24, 32)

# Words per step: what is read and written of one step stays in the second-level cache.
_CHUNK = 1 << 16


def word_dtype(word_bits: int) -> np.dtype[Any]:
    """The dtype that holds words of ``word_bits`` in memory; ValueError for an unknown width."""
    if word_bits not in WORD_BITS:
        raise ValueError(f"expected word_bits in {WORD_BITS}, got {word_bits}")
    return np.dtype(np.uint16 if word_bits == 16 else np.uint32)


def to_words(integers: npt.NDArray[Any], *, word_bits: int) -> Words:
    """Signed integers as words modulo 2^b.

    Shape:      (d,) of a signed integer dtype in; (d,) uint32 or uint16 out. int32 in and
                uint32 out share memory: masking the result overwrites the input.
    Raises:     ValueError for another dtype or shape.
    """
    dtype = word_dtype(word_bits)
    if not isinstance(integers, np.ndarray) or integers.ndim != 1 or integers.dtype.kind != "i":
        raise ValueError("expected a vector (d,) of signed integers")
    if integers.dtype == np.int32 and dtype == np.uint32:
        return np.ascontiguousarray(integers).view(np.uint32)
    return integers.astype(dtype)


def centre(words: Words, *, word_bits: int) -> npt.NDArray[np.int64]:
    """The representative of each word in [-2^(b-1), 2^(b-1)).

    Shape:      (d,) uint32 or uint16 in, (d,) int64 out.
    Raises:     ValueError for another dtype than that of ``word_bits``.

    >>> centre(np.array([1, 0xFFFFFFFF], dtype=np.uint32), word_bits=24)
    array([ 1, -1])
    """
    if words.dtype != word_dtype(word_bits):
        raise ValueError(f"expected {word_dtype(word_bits)} words, got {words.dtype}")
    if word_bits == 16:
        return words.view(np.int16).astype(np.int64)
    # Shifting up drops the high byte of a 24-bit word; the arithmetic shift down spreads the sign.
    shift = 32 - word_bits
    centred = (words << np.uint32(shift)).view(np.int32)
    centred >>= shift
    return centred.astype(np.int64)


def pack(words: Words, *, word_bits: int) -> bytes:
    """The wire form: ``word_bits / 8`` little-endian bytes per word.

    Shape:      (d,) uint32 or uint16 in, d * word_bits / 8 bytes out; of a 24-bit word the low
                three bytes.
    Raises:     ValueError for another dtype than that of ``word_bits``.
    """
    out = np.empty(words.size * word_bits // 8, np.uint8)
    pack_into(words, out, word_bits=word_bits)
    return out.tobytes()


def pack_into(words: Words, out: npt.NDArray[np.uint8], *, word_bits: int) -> None:
    """Write what ``pack`` returns to ``out``.

    Shape:      (d,) in; ``out`` (d * word_bits / 8,) uint8, contiguous.
    Raises:     ValueError for another dtype or length.
    """
    if words.dtype != word_dtype(word_bits) or words.ndim != 1:
        raise ValueError(f"expected a vector (d,) of {word_dtype(word_bits)}")
    if out.dtype != np.uint8 or out.shape != (words.size * word_bits // 8,):
        raise ValueError(f"expected room for {words.size} words of {word_bits} bits")
    size = word_bits // 8
    triples = out.reshape(words.size, size)
    for start in range(0, words.size, _CHUNK):
        chunk = _little_endian(words[start : start + _CHUNK])
        octets = chunk.view(np.uint8).reshape(chunk.size, chunk.itemsize)
        target = triples[start : start + _CHUNK]
        if size == chunk.itemsize:
            target[:] = octets
            continue
        for place in range(size):  # a column at a time: three passes beat one over odd rows
            target[:, place] = octets[:, place]


def unpack(
    data: bytes | memoryview, *, word_bits: int, num_words: int, peer: str = "sender"
) -> Words:
    """The words of a wire form; 24-bit words come back with a zero high byte.

    Shape:      num_words * word_bits / 8 bytes in; (num_words,) uint32 or uint16 out, writeable.
    Raises:     RemoteProtocolError(``peer``, MALFORMED) for any other length, before anything is
                allocated; ValueError for an unknown width or a negative count.
    """
    dtype = word_dtype(word_bits)
    if num_words < 0:
        raise ValueError(f"expected num_words >= 0, got {num_words}")
    view = memoryview(data).cast("B")
    if len(view) != num_words * word_bits // 8:
        raise RemoteProtocolError(peer, Misbehaviour.MALFORMED, "masked vector: wrong length")
    if word_bits != 24:
        return np.frombuffer(view, dtype=dtype.newbyteorder("<")).astype(dtype)
    words = np.empty(num_words, dtype=np.uint32)
    # Four bytes are read for each three, the last word apart so as not to read past the end.
    if num_words > 1:
        words[:-1] = np.ndarray(num_words - 1, dtype="<u4", buffer=view, strides=(3,))
    words[-1:] = int.from_bytes(view[-3:], "little")
    words &= np.uint32(0xFFFFFF)
    return words


def _little_endian(words: Words) -> npt.NDArray[Any]:
    return np.ascontiguousarray(words, dtype=words.dtype.newbyteorder("<"))
