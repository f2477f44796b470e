"""Exact samples of the discrete Gaussian, whose shares many parties add inside one sum.

N_Z(0, v): P[X = k] proportional to exp(-k^2 / (2 v)) for whole k. A proposal from the discrete
Laplace distribution is accepted with the probability that turns it into the discrete Gaussian. Each
coin is exact: 64 random bits are compared with its probability in floating point, and where that
could err, further bits with as many digits as decide.

What a *sum* of such shares is worth is in ``events.DiscreteGaussianSum``.

Source: Canonne, Kamath and Steinke (2020), The Discrete Gaussian for Differential Privacy,
arXiv:2004.00010, Algorithms 1 to 3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

__all__ = ["LARGEST_VARIANCE", "draw_discrete_gaussian"]

Entropy = Callable[[int], bytes]

LARGEST_VARIANCE = 1 << 52
_WORD = 2.0**64
# Float64 exponentials and their arguments are off by less than 2^-48; what is nearer is decided
# with more digits.
_MARGIN = 2.0**-40
_CHUNK = 1 << 16


def draw_discrete_gaussian(size: int, *, variance: int, entropy: Entropy) -> np.ndarray:
    """``size`` independent draws of N_Z(0, variance), (size,) int64.

    variance   v, a whole number from 1 to 2^52; that of the draws is v at most, and v to many
               digits already for v = 4
    entropy    ``entropy(n)`` gives n bytes, from the operating system in production

    Guarantee:  exactly this law for uniform bytes.
    Raises:     ValueError for another variance.
    """
    if int(variance) != variance or not 1 <= variance <= LARGEST_VARIANCE:
        raise ValueError(f"expected a whole variance from 1 to 2^52, got {variance}")
    variance = int(variance)
    out = np.empty(size, np.int64)
    done = 0
    while done < size:
        # About three of four proposals are accepted.
        wanted = min(_CHUNK, size - done)
        proposed = _discrete_laplace(wanted + wanted // 2 + 16, variance, entropy)
        found = proposed[_is_accepted(proposed, variance, entropy)][:wanted]
        out[done : done + found.size] = found
        done += found.size
    return out


def _scale(variance: int) -> int:
    return math.isqrt(variance) + 1


def _is_accepted(proposed: np.ndarray, variance: int, entropy: Entropy) -> np.ndarray:
    """A coin of probability exp(-(|y| - v/t)^2 / (2v)) for each proposal y of scale t."""
    t = _scale(variance)
    away = np.abs(proposed).astype(np.float64) - variance / t
    exponent = away * away / (2 * variance)

    def exactly(index: int) -> Fraction:
        return (abs(int(proposed[index])) - Fraction(variance, t)) ** 2 / (2 * variance)

    return _coins(exponent, exactly, entropy)


def _discrete_laplace(size: int, variance: int, entropy: Entropy) -> np.ndarray:
    """Independent draws with P[k] proportional to exp(-|k| / t), t = floor(sqrt(v)) + 1; about
    ``size`` of them."""
    t = _scale(variance)
    parts = []
    count = 0
    while count < size:
        # X = U + t V with P[U = u] ~ exp(-u / t) below t, and V geometric with ratio 1 / e.
        low = _below(t, size, entropy)
        low = low[_coins(low / t, functools.partial(_ratio, low, t), entropy)]
        magnitude = low + t * _geometric(low.size, entropy)
        is_negative = np.frombuffer(entropy(low.size), np.uint8) & 1 == 1
        signed = np.where(is_negative, -magnitude, magnitude)
        # Zero has one sign only.
        parts.append(signed[~(is_negative & (magnitude == 0))])
        count += parts[-1].size
    return np.concatenate(parts)


def _ratio(low: np.ndarray, scale: int, index: int) -> Fraction:
    return Fraction(int(low[index]), scale)


def _geometric(size: int, entropy: Entropy) -> np.ndarray:
    """The number of successes of coins of probability 1/e before the first failure."""
    count = np.zeros(size, np.int64)
    going = np.arange(size)
    while going.size:
        going = going[_coins(np.ones(going.size), lambda _: Fraction(1), entropy)]
        count[going] += 1
    return count


def _below(limit: int, size: int, entropy: Entropy) -> np.ndarray:
    """About ``size`` uniform whole numbers below ``limit``; words that would favour some go."""
    words = np.frombuffer(entropy(8 * size), "<u8")
    fair = (1 << 64) // limit * limit
    if fair < 1 << 64:
        words = words[words < np.uint64(fair)]
    return (words % np.uint64(limit)).astype(np.int64)


def _coins(
    exponent: np.ndarray, exactly: Callable[[int], Fraction], entropy: Entropy
) -> np.ndarray:
    """True with probability exp(-exponent[i]), each by itself.

    exactly   the exponent without rounding, for the coins that floating point cannot decide
    """
    words = np.frombuffer(entropy(8 * exponent.size), "<u8")
    chance = np.exp(-exponent)
    uniform = words / _WORD
    heads: np.ndarray = uniform < chance
    for index in np.flatnonzero(np.abs(uniform - chance) < _MARGIN):
        heads[index] = _decided(int(words[index]), exactly(int(index)), entropy)
    return heads


def _decided(word: int, exponent: Fraction, entropy: Entropy) -> bool:
    """Whether the uniform number whose binary digits begin with ``word`` is below exp(-exponent).

    Digits are added until the interval that is left lies on one side.
    """
    bits = 64
    while True:
        word = (word << 64) | int.from_bytes(entropy(8), "little")
        bits += 64
        with localcontext() as context:
            context.prec = bits // 3 + 20
            chance = (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
            scaled = chance * Decimal(1 << bits)
            # The value is right to a few units of its last digit, far below one step.
            if Decimal(word + 1) < scaled - 1:
                return True
            if Decimal(word) > scaled + 1:
                return False
