"""A lower bound on epsilon from one training run, for (epsilon, delta)-DP itself.

Source:     Steinke, Nasr, Jagielski (2023), Thm 5.2 and its p-value, arXiv:2305.08846.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.stats import binom

from attacks.epsilon.guesses import Guesses

__all__ = ["epsilon_bound", "p_value"]


def p_value(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """An upper bound on the chance of as many correct guesses under (epsilon, delta)-DP.

    P[B >= v] + 2 m delta max_i P[v > B >= v - i] / i, B ~ Binomial(r, e^eps / (1 + e^eps)).
    """
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"expected epsilon >= 0 and 0 <= delta <= 1, got {epsilon} and {delta}")
    r, v = guesses.num_guesses, guesses.num_correct
    q = 1 / (1 + np.exp(-epsilon))
    tail = float(binom.sf(v - 1, r, q))
    if delta == 0 or v == 0:
        return min(1.0, tail)
    i = np.arange(1, v + 1)
    mass_below = np.cumsum(binom.pmf(v - i, r, q))
    return float(min(1.0, tail + 2 * guesses.num_canaries * delta * (mass_below / i).max()))


@functools.lru_cache(maxsize=1024)  # a plan's ceiling is asked for with every bound
def epsilon_bound(guesses: Guesses, *, delta: float, significance: float) -> float:
    """sup{epsilon : p_value < significance}, 0 when even epsilon = 0 cannot be rejected.

    Guarantee:  at most the true epsilon with probability >= 1 - significance, for a mechanism that
                is (epsilon, delta)-DP under adding or removing one canary, coins that are fair and
                independent, and guesses counted by a plan fixed beforehand.
    """
    if not 0 < significance < 1:
        raise ValueError(f"expected 0 < significance < 1, got {significance}")

    def rejected(epsilon: float) -> bool:
        return p_value(guesses, epsilon=epsilon, delta=delta) < significance

    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low
