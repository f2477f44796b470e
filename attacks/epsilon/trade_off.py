"""Trade-off functions: the least type II error of any attacker at a given type I error.

Source:     Dong, Roth, Su (2022), arXiv:1905.02383; Balle, Wang (2018), arXiv:1805.06530, Thm 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

__all__ = [
    "TradeOff",
    "approximate_dp",
    "check_trade_off",
    "delta_of_gaussian",
    "from_profile",
    "gaussian",
    "mu_of_gaussian",
]

TradeOff = Callable[[float], float]
"""f: [0, 1] -> [0, 1], convex, decreasing, f(a) <= 1 - a, symmetric (f its own inverse)."""


def gaussian(mu: float) -> TradeOff:
    """G_mu(a) = Phi(Phi^-1(1 - a) - mu): telling N(0, 1) from N(mu, 1); mu = 1 / sigma."""
    if not (math.isfinite(mu) and mu >= 0):
        raise ValueError(f"expected a finite mu >= 0, got {mu}")

    def curve(alpha: float) -> float:
        # -Phi^-1(a) rather than Phi^-1(1 - a), which loses every digit of a small a.
        return float(ndtr(-ndtri(alpha) - mu))

    return curve


def approximate_dp(epsilon: float, *, delta: float) -> TradeOff:
    """max(0, 1 - delta - e^eps a, e^-eps (1 - delta - a)): the weakest (eps, delta)-DP."""
    return from_profile([(epsilon, delta)])


def from_profile(profile: Sequence[tuple[float, float]]) -> TradeOff:
    """The curve that an accountant's (epsilon, delta) pairs imply together.

    A mechanism that is (eps_i, delta_i)-DP for every i has a trade-off of at least the maximum of
    their curves. With enough pairs (a privacy loss distribution gives any number) this is the
    accountant's own curve, and a sharper null than a single pair.
    """
    if not profile:
        raise ValueError("expected at least one (epsilon, delta) pair")
    epsilons, deltas = np.asarray(profile, dtype=np.float64).reshape(-1, 2).T
    if not (np.isfinite(epsilons).all() and (epsilons >= 0).all()):
        raise ValueError(f"expected finite epsilon >= 0, got {epsilons.tolist()}")
    if not ((deltas >= 0).all() and (deltas <= 1).all()):
        raise ValueError(f"expected 0 <= delta <= 1, got {deltas.tolist()}")
    slopes = np.exp(epsilons)

    def curve(alpha: float) -> float:
        steep = 1 - deltas - slopes * alpha
        flat = (1 - deltas - alpha) / slopes
        return float(max(0.0, steep.max(), flat.max()))

    return curve


def check_trade_off(curve: TradeOff, *, tolerance: float = 1e-6) -> None:
    """Refuse a curve that is no symmetric trade-off function (checked on 201 points).

    The one-run recursion needs symmetry: with add/remove neighbours use what is proven for *both*
    directions, such as ``from_profile`` of (epsilon, delta) pairs that hold in both.
    Raises:     ValueError that names the property that fails.
    """
    grid = np.linspace(0, 1, 201)
    values = np.array([curve(float(a)) for a in grid])
    if not np.isfinite(values).all() or (values < -tolerance).any():
        raise ValueError("trade_off: returns NaN, infinity or a negative error")
    if (values > 1 - grid + tolerance).any():
        raise ValueError("trade_off: lies above 1 - a, better protected than no mechanism at all")
    if (np.diff(values) > tolerance).any():
        raise ValueError("trade_off: increases somewhere")
    if (np.diff(values, 2) < -tolerance).any():
        raise ValueError("trade_off: is not convex")
    twice = np.array([curve(float(b)) for b in values])
    # Where f has reached 0 it has no inverse: f(f(a)) = f(0) <= a there, otherwise a itself.
    inner = values > 1e-3
    if (np.abs(twice - grid)[inner] > 100 * tolerance).any():
        raise ValueError("trade_off: is not symmetric; pass one that holds in both directions")


def delta_of_gaussian(mu: float, *, epsilon: float) -> float:
    """The least delta at ``epsilon`` of a mechanism with trade-off G_mu."""
    if mu == 0:
        return 0.0
    a, b = -epsilon / mu + mu / 2, -epsilon / mu - mu / 2
    return float(ndtr(a) - math.exp(min(epsilon + float(log_ndtr(b)), 0.0)))


def mu_of_gaussian(epsilon: float, *, delta: float) -> float:
    """The largest mu whose G_mu is (epsilon, delta)-DP; 1 / mu is the noise multiplier."""
    if not (math.isfinite(epsilon) and epsilon >= 0 and 0 < delta < 1):
        raise ValueError(f"expected epsilon >= 0 and 0 < delta < 1, got {epsilon} and {delta}")
    high = 1.0
    while delta_of_gaussian(high, epsilon=epsilon) < delta:
        high *= 2
    return float(
        brentq(lambda mu: delta_of_gaussian(mu, epsilon=epsilon) - delta, 0.0, high, xtol=1e-13)
    )
