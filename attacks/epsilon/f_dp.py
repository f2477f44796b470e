"""A sharper test from one training run, against a whole trade-off curve.

It contradicts the *curve*: a mechanism that is (eps, delta)-DP but not, say, Gaussian may be
rejected together with the Gaussian curve through (eps, delta). Give it the accountant's own curve
to test the claim that was made.

Source:     Mahloujifar, Melis, Chaudhuri (2024), Alg. 3 (recursion), arXiv:2410.22235.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from attacks.epsilon.guesses import Guesses
from attacks.epsilon.trade_off import TradeOff, gaussian, mu_of_gaussian

__all__ = ["epsilon_bound", "gaussian_family", "rejects", "smallest_significance"]

_LARGEST_EPSILON = 200.0


def rejects(guesses: Guesses, *, trade_off: TradeOff, significance: float) -> bool:
    """Whether so many correct guesses have a chance below ``significance`` under ``trade_off``.

    With n guesses of which v are right: r = significance v / m, h = significance (n - v) / m, then
    for i = v - 1 .. 0: h' = max(h, f(1 - r)), r += i / (n - i) (h' - h), h = h'. The curve is
    contradicted when r + h > n / m. f(1 - r) is the least probability, under the neighbour, of
    an event of probability r (for a symmetric f).
    """
    if not 0 < significance < 1:
        raise ValueError(f"expected 0 < significance < 1, got {significance}")
    m, n, v = guesses.num_canaries, guesses.num_guesses, guesses.num_correct
    r, h = significance * v / m, significance * (n - v) / m
    for i in range(v - 1, -1, -1):
        risen = max(h, trade_off(1 - r)) if r < 1 else 1.0
        r += i / (n - i) * (risen - h)
        h = risen
        if r + h > n / m:  # both only grow
            return True
    return False


def smallest_significance(guesses: Guesses, *, trade_off: TradeOff) -> float:
    """The p-value: the smallest significance at which ``rejects`` holds, 1 when there is none."""
    low, high = 1e-12, 1 - 1e-9
    if not rejects(guesses, trade_off=trade_off, significance=high):
        return 1.0
    if rejects(guesses, trade_off=trade_off, significance=low):
        return low
    while high / low > 1 + 1e-6:
        middle = (low * high) ** 0.5
        if rejects(guesses, trade_off=trade_off, significance=middle):
            high = middle
        else:
            low = middle
    return high


@functools.lru_cache(maxsize=64)  # the same delta gives the same family
def gaussian_family(delta: float) -> Callable[[float], TradeOff]:
    """epsilon -> the trade-off of the Gaussian mechanism that is just (epsilon, delta)-DP."""
    return lambda epsilon: gaussian(mu_of_gaussian(epsilon, delta=delta))


@functools.lru_cache(maxsize=1024)  # a plan's ceiling is asked for with every bound
def epsilon_bound(
    guesses: Guesses, *, family: Callable[[float], TradeOff], significance: float
) -> float:
    """The largest epsilon whose curve is contradicted, 0 when none is.

    family:     epsilon -> trade-off, decreasing in epsilon (``gaussian_family``, or an accountant's
                curve with the noise multiplier solved for).
    """

    def rejected(epsilon: float) -> bool:
        return rejects(guesses, trade_off=family(epsilon), significance=significance)

    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
        if high > _LARGEST_EPSILON:
            raise ValueError("family: every curve up to epsilon = 200 is contradicted")
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low
