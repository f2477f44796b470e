"""Rounding to whole numbers that cannot make a clipped vector much longer.

Rounding each coordinate up or down at random is unbiased, but may lengthen the vector by sqrt(d).
Rounding is therefore repeated until the norm is at most D: the sensitivity is then D for certain,
and the bias that the condition brings is small, since a try succeeds with probability
1 - beta at least.

Source: Kairouz, Liu and Steinke (2021), arXiv:2102.06387, section 4.1 (conditional randomized
rounding, equation for the norm bound).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

__all__ = ["BETA", "round_within", "rounded_norm_bound"]

# A try fails with probability e^-1/2 at most by the bound, far more rarely in fact.
BETA = math.exp(-0.5)
_MAX_TRIES = 200


def rounded_norm_bound(norm: float, *, num_words: int, beta: float = BETA) -> float:
    """D: the L2 norm that a rounded vector keeps to with probability 1 - beta at least.

    D^2 = min{ c^2 + d/4 + sqrt(2 ln(1/beta)) (c + sqrt(d)/2), (c + sqrt(d))^2 }
    Units:      ``norm`` c and the result in rounding steps.
    Raises:     ValueError for norm <= 0, num_words < 1 or beta outside (0, 1).
    """
    if not (norm > 0 and num_words >= 1 and 0 < beta < 1):
        raise ValueError("expected norm > 0, num_words >= 1 and 0 < beta < 1")
    root = math.sqrt(num_words)
    square = norm**2 + num_words / 4 + math.sqrt(2 * math.log(1 / beta)) * (norm + root / 2)
    return math.sqrt(min(square, (norm + root) ** 2))


def round_within(
    rounding: Callable[[bytes], np.ndarray], *, bound: float, key: bytes
) -> np.ndarray:
    """The first rounding whose L2 norm is at most ``bound``.

    rounding   makes whole numbers from 32 bytes of key; other bytes, other roundings

    Guarantee:  the norm of the result, computed in whole numbers, is at most ``bound``.
    Raises:     ValueError when 200 tries exceed it: the vector was longer than it should be.
    """
    limit = math.floor(bound * bound)
    for attempt in range(_MAX_TRIES):
        words = rounding(hashlib.sha256(b"rounding" + attempt.to_bytes(4, "big") + key).digest())
        if _squared_norm(words) <= limit:
            return words
    raise ValueError("expected a vector within its clip norm: no rounding keeps to the bound")


def _squared_norm(words: np.ndarray) -> int:
    """Exactly: 2^16 squares of 31 bits and less fill no int64 in halves of 16 bits."""
    total = 0
    for start in range(0, words.size, 1 << 16):
        part = words[start : start + (1 << 16)].astype(np.int64)
        high, low = part >> 16, part & 0xFFFF
        total += int((high * high).sum()) << 32
        total += int((high * low).sum()) << 17
        total += int((low * low).sum())
    return total
