"""Real numbers as bounded integers, by unbiased stochastic rounding.

``encode`` maps v to floor(scale * v) or the next integer up, the latter with probability
scale * v - floor(scale * v): the expectation is scale * v. The uniforms come from an AES-256-CTR
stream, never from numpy's generators, so a rounding cannot be replayed by who guesses a seed.

Source: Kairouz et al. (2021), arXiv:2102.06387, section 4.1 (randomized rounding; here without
the conditional retry, which is the noise sampler's business).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import LocalProtocolError
from protocol.masks import Words, cipher_stream, in_ranges
from protocol.words import word_dtype

__all__ = ["FixedPoint"]

# Elements per step: the temporaries of one step stay in the second-level cache.
_CHUNK = 1 << 15
_UNIFORM_BITS = 32
# Rounding a word takes about as long as adding so many masks to it.
_COST_IN_MASKS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedPoint:
    """A fixed-point format: ``scale`` steps per unit, inputs in [-clip, clip].

    scale, clip   clip bounds every coordinate; an L2 norm bound is one too
    word_bits     width of a word of the sum: 16, 24 or 32
    Raises:       ValueError for a scale or clip that is not finite and positive, another width,
                  or where a single input does not fit.
    """

    scale: float
    clip: float
    word_bits: int

    def __post_init__(self) -> None:
        word_dtype(self.word_bits)
        for name, value in (("scale", self.scale), ("clip", self.clip)):
            # 2^8 is what decoding may multiply the scale by.
            if not (math.isfinite(value * 2**8) and value > 0):
                raise ValueError(f"expected {name} finite and > 0, got {value}")
        if not self.scale * self.clip <= self.max_sum:
            raise ValueError(
                f"expected scale * clip <= {self.max_sum} for {self.word_bits}-bit words, "
                f"got {self.scale * self.clip:g}: lower scale or clip, or use wider words"
            )

    @property
    def max_integer(self) -> int:
        """Largest absolute value of one encoded coordinate: ceil(scale * clip)."""
        return math.ceil(self.scale * self.clip)

    @property
    def max_sum(self) -> int:
        """Largest absolute value of a sum that decodes without wrap-around: 2^(b-1) - 1."""
        return (1 << (self.word_bits - 1)) - 1

    def check_no_wrap(self, *, num_clients: int, noise_bound: int = 0) -> None:
        """Refuse a cohort whose sum could wrap around; call before anything is masked.

        Guarantee:  on return |sum of num_clients encodings + noise| <= 2^(b-1) - 1 for every
                    noise of absolute value at most ``noise_bound`` (summed over all clients).
        Raises:     ValueError, also for num_clients < 1 or noise_bound < 0.
        """
        if num_clients < 1 or noise_bound < 0:
            raise ValueError("expected num_clients >= 1 and noise_bound >= 0")
        largest = num_clients * self.max_integer + noise_bound
        if largest > self.max_sum:
            raise ValueError(
                f"expected a sum over {num_clients} clients of at most {self.max_sum}, it can "
                f"reach {largest}: lower scale, clip or noise, or use wider words"
            )

    def encode(self, values: npt.NDArray[Any], *, key: bytes) -> npt.NDArray[np.int32]:
        """Round each ``scale * value`` up or down at random so that its mean is exact.

        Shape:      (d,) float16, float32 or float64 in, (d,) int32 out.
        Guarantee:  |out| <= max_integer; mean within 2^-32 of scale * value; deviation below 1.
                    ``key`` (32 secret bytes) must be fresh for every vector.
        Raises:     LocalProtocolError for NaN, inf, a value outside [-clip, clip], another dtype
                    or shape; nothing is returned then. ValueError for a bad key.
        """
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind != "f":
            raise LocalProtocolError("expected a vector (d,) of floating-point values")
        return self.encode_chunks(
            lambda start, stop: values[start:stop], num_words=values.size, key=key
        )

    def encode_chunks(
        self,
        read: Callable[[int, int], npt.NDArray[Any]],
        *,
        num_words: int,
        key: bytes,
        num_threads: int = 1,
    ) -> npt.NDArray[np.int32]:
        """``encode`` of values that need never be in memory together.

        read        values [start, stop), which are only read; called from several threads where
                    there are several

        Guarantee:  the integers of ``encode``, whatever the chunks and the number of threads.
        Raises:     as ``encode``, and what ``read`` raises.
        """
        cipher_stream(key)  # a bad key is an error for an empty vector too
        out = np.empty(num_words, dtype=np.int32)
        in_ranges(
            lambda start, stop: self._encode_range(read, start, out[start:stop], key),
            num_words=num_words,
            itemsize=out.itemsize,
            num_masks=_COST_IN_MASKS,
            num_threads=num_threads,
        )
        return out

    def _encode_range(
        self,
        read: Callable[[int, int], npt.NDArray[Any]],
        first: int,
        out: npt.NDArray[np.int32],
        key: bytes,
    ) -> None:
        stream = cipher_stream(key, offset_bytes=first * _UNIFORM_BITS // 8)
        length = min(_CHUNK, out.size)
        zeros = bytes(length * _UNIFORM_BITS // 8)
        uniforms = np.empty(length, dtype="<u4")
        scaled, lower, is_up = np.empty(length), np.empty(length), np.empty(length, bool)
        for start in range(0, out.size, _CHUNK):
            integers = out[start : start + _CHUNK]
            size = integers.size
            x, low, u, up = scaled[:size], lower[:size], uniforms[:size], is_up[:size]
            values = read(first + start, first + start + size)
            # NaN fails both comparisons; the message shows no value of the update.
            if not (values.max() <= self.clip and values.min() >= -self.clip):
                raise LocalProtocolError(
                    f"expected finite values in [-{self.clip:g}, {self.clip:g}]: clip the update"
                )
            np.copyto(x, values)
            x *= self.scale
            stream.update_into(memoryview(zeros)[: u.nbytes], u.data.cast("B"))
            # Not floor(x + u): near 2^21 and above that addition rounds, and a value that is
            # an integer already could step over max_integer. x - floor(x) is exact.
            np.floor(x, out=low)
            np.copyto(integers, low, casting="unsafe")
            x -= low
            x *= 2.0**_UNIFORM_BITS
            np.copyto(low, u)  # comparing two dtypes would convert in small blocks, twice as slow
            np.less(low, x, out=up)
            integers += up
        uniforms.fill(0)

    def decode_sum(self, words: Words, *, num_clients: int) -> npt.NDArray[np.float64]:
        """The sum of real values behind a sum of encodings, without division by anything.

        Shape:      (d,) uint32 or uint16 in, (d,) float64 out, in the units of the inputs.
        Guarantee:  exact but for the rounding of each input, when ``check_no_wrap`` held.
        Raises:     ValueError for another dtype, or a cohort that could have wrapped around.
        """
        self.check_no_wrap(num_clients=num_clients)
        if words.dtype != word_dtype(self.word_bits):
            raise ValueError(f"expected {word_dtype(self.word_bits)} words, got {words.dtype}")
        # Shifted up, a 24-bit word has its sign where int32 has it; the quotient is the same.
        shift = 8 * words.itemsize - self.word_bits
        decoded, step = np.empty(words.size), np.float64(self.scale * 2**shift)
        for start in range(0, words.size, _CHUNK):
            chunk = words[start : start + _CHUNK]
            signed = (chunk << shift if shift else chunk).view(f"i{words.itemsize}")
            np.divide(signed, step, out=decoded[start : start + _CHUNK])
        return decoded
