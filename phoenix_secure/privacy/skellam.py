"""Skellam noise: integers that stay Skellam when parties add their shares, and their RDP.

X = Y - Z with Y, Z ~ Poisson(mu / 2) has variance mu. The sum of independent Skellam variables is
Skellam with the sum of their variances, so noise made by many parties is accounted for exactly,
whoever drops out.

Source: Agarwal, Kairouz and Liu (2021), The Skellam Mechanism, arXiv:2110.04995, Theorem 3.5.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from phoenix_secure.privacy.events import SkellamSum

__all__ = ["SkellamTable", "sampler_delta", "skellam_rdp"]

Entropy = Callable[[int], bytes]

# Thresholds are whole numbers of this many bits: 64 are compared at once, the rest on a tie.
_BITS = 128
_WORKING_BITS = 192
_CHUNK = 1 << 18


def skellam_rdp(event: SkellamSum, *, order: int) -> float:
    """Renyi divergence of ``order`` >= 2 between neighbours of one release.

    alpha D2^2 / (2 mu) + min{ ((2 alpha - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu) }
    Raises:     ValueError for an order that is not a whole number of at least 2.
    """
    if order != int(order) or order < 2:
        raise ValueError(f"expected a whole order >= 2, got {order}")
    mu, d2, d1 = event.variance, event.l2_sensitivity, event.l1_sensitivity
    extra = min(((2 * order - 1) * d2**2 + 6 * d1) / (4 * mu**2), 3 * d1 / (2 * mu))
    return order * d2**2 / (2 * mu) + extra


class SkellamTable:
    """Samples Skellam noise of one variance by table inversion.

    Guarantee:  each draw's distribution is within ``total_variation`` of Skellam(variance): the
                table is computed in integers, from a recurrence, and inverted with 128 bits.
    Raises:     ValueError for a variance that is not above 0 and at most 2^40.
    Source:     e^-mu I_k(mu) = P[X = k]; I_{k-1} = I_{k+1} + (2k / mu) I_k downwards (Miller), the
                sum over all k being 1. Abramowitz and Stegun 9.6.26 and 9.6.37.
    """

    def __init__(self, variance: float) -> None:
        if not 0 < variance <= 2.0**40:
            raise ValueError(f"expected 0 < variance <= 2^40, got {variance}")
        self.variance = variance
        self._low, thresholds = _thresholds(variance)
        self._full = thresholds
        shift = _BITS - 64
        self._high = np.array([each >> shift for each in thresholds], np.uint64)

    @property
    def total_variation(self) -> float:
        """Bound on the distance of one draw from the true law: each threshold is off by 2^-128
        at most, and what lies beyond the table is less than that."""
        return (len(self._full) + 2) * 2.0**-_BITS

    def draw(self, size: int, *, entropy: Callable[[int], bytes]) -> np.ndarray:
        """(size,) int64; ``entropy(n)`` gives n bytes, from the operating system in production."""
        out = np.empty(size, np.int64)
        for start in range(0, size, _CHUNK):
            count = min(_CHUNK, size - start)
            uniforms = np.frombuffer(entropy(8 * count), "<u8")
            place = np.searchsorted(self._high, uniforms, side="left")
            # Where the first 64 bits equal a threshold's, the next 64 decide.
            ties = np.flatnonzero(self._high[np.minimum(place, len(self._high) - 1)] == uniforms)
            for index in ties:
                place[index] = self._place(int(uniforms[index]), entropy)
            out[start : start + count] = place
        out += self._low
        return out

    def _place(self, high: int, entropy: Callable[[int], bytes]) -> int:
        uniform = (high << 64) | int.from_bytes(entropy(8), "little")
        first, last = 0, len(self._full)
        while first < last:
            middle = (first + last) // 2
            if self._full[middle] <= uniform:
                first = middle + 1
            else:
                last = middle
        return first


def sampler_delta(table: SkellamTable, *, num_words: int, releases: int, epsilon: float) -> float:
    """The delta added by imperfect sampling: (1 + e^epsilon) TV for each word of each release.

    With P' the sampler's law and P the true one, for neighbours 0 and 1:
    P'0(S) <= P0(S) + TV <= e^epsilon P1(S) + delta + TV <= e^epsilon (P'1(S) + TV) + delta + TV.
    """
    return (1 + math.exp(epsilon)) * table.total_variation * num_words * releases


@functools.lru_cache(maxsize=4)
def _thresholds(variance: float) -> tuple[int, list[int]]:
    """(k_min, T): a uniform of 128 bits below T[i] but not below T[i - 1] means k_min + i."""
    reach = _reach(variance)
    one = 1 << _WORKING_BITS
    # mu as a ratio of whole numbers: exact.
    numerator, denominator = float(variance).as_integer_ratio()
    # Downwards from far outside, where the start does not matter; scaled down when it grows.
    above, here = 0, 1 << 32
    start = reach + 64 + reach // 4
    values = [0] * (start + 1)
    values[start] = here
    for k in range(start, 0, -1):
        below = above + here * 2 * k * denominator // numerator
        above, here = here, below
        values[k - 1] = below
        if here.bit_length() > 4 * _WORKING_BITS:
            shift = here.bit_length() - 2 * _WORKING_BITS
            above >>= shift
            here >>= shift
            values[k - 1 :] = [value >> shift if value else 0 for value in values[k - 1 :]]
    total = values[0] + 2 * sum(values[1:])
    shift = _WORKING_BITS - _BITS
    running = 0
    thresholds = []
    for k in range(-reach, reach):
        running += values[abs(k)] * one // total
        thresholds.append(running >> shift)
    return -reach, thresholds


def _reach(variance: float) -> int:
    """x with P[|X| > x] < 2^-130, by the Chernoff bound of ``protocol.parameters.skellam_tail``."""
    target = -132 * math.log(2)

    def log_bound(x: float) -> float:
        ratio = x / variance
        return x * ratio / (math.hypot(1.0, ratio) + 1.0) - x * math.asinh(ratio)

    low, high = 0, 1
    while log_bound(high) > target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log_bound(middle) > target else (low, middle)
    return high
