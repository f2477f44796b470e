"""Renyi divergences of composed events, and the epsilon that follows from them.

Source:     Mironov (2017), arXiv:1702.07476; Mironov, Talwar and Zhang (2019), arXiv:1908.10530,
            for Poisson sampling under add or remove one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Sequence

import numpy as np
from dp_accounting import rdp
from opacus.accountants.analysis import rdp as opacus_rdp
from scipy.special import logsumexp

from phoenix_secure.privacy.events import Adjacency, PoissonSampledGaussian, SkellamSum
from phoenix_secure.privacy.skellam import skellam_rdp

__all__ = ["ORDERS", "WHOLE_ORDERS", "epsilon_by_dp_accounting", "epsilon_by_opacus", "rdp_curve"]

# Orders between 1 and 2 matter where epsilon is large, large ones where it is small.
ORDERS = (*(1 + i / 10 for i in range(1, 100)), *range(12, 64), 80, 96, 128, 192, 256, 512, 1024)
# The Skellam bound knows whole orders only.
WHOLE_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
_REPLACE_ORDERS = (*(1 + i / 10 for i in range(1, 10)), *range(2, 65))
_GRID = 1 << 14


def rdp_curve(
    gaussians: Sequence[PoissonSampledGaussian],
    skellams: Sequence[SkellamSum] = (),
    *,
    adjacency: Adjacency,
) -> tuple[tuple[float, ...], np.ndarray]:
    """Orders, and the Renyi divergence of everything composed at each of them."""
    orders: tuple[float, ...] = WHOLE_ORDERS if skellams else ORDERS
    is_replaced = adjacency is Adjacency.REPLACE_ONE
    if is_replaced and not skellams:
        orders = _REPLACE_ORDERS
    total = np.zeros(len(orders))
    for skellam in skellams:
        if is_replaced:
            # The difference of two vectors: whole numbers again, and at most twice as long.
            skellam = dataclasses.replace(skellam, l2_sensitivity=2 * skellam.l2_sensitivity)
        total += skellam.releases * np.array([skellam_rdp(skellam, order=int(a)) for a in orders])
    for each in gaussians:
        if is_replaced:
            of_one = [
                _replace_one_rdp(each.sampling_rate, each.noise_multiplier, a) for a in orders
            ]
            total += each.steps * np.array(of_one)
        else:
            total += each.steps * _sampled_rdp(each.sampling_rate, each.noise_multiplier, orders)
    return orders, total


def epsilon_by_opacus(orders: Sequence[float], curve: np.ndarray, delta: float) -> float:
    """The epsilon of a curve, by Opacus' conversion (Balle et al. 2020, Theorem 21)."""
    with warnings.catch_warnings():
        # Opacus warns when the best order is its largest; the bound holds all the same.
        warnings.simplefilter("ignore")
        found = opacus_rdp.get_privacy_spent(orders=list(orders), rdp=curve, delta=delta)
    return float(found[0])


def epsilon_by_dp_accounting(orders: Sequence[float], curve: np.ndarray, delta: float) -> float:
    """The same by dp-accounting's conversion (Canonne, Kamath and Steinke 2020)."""
    return float(rdp.rdp_privacy_accountant.compute_epsilon(list(orders), curve, delta)[0])


@functools.lru_cache(maxsize=512)
def _sampled_rdp(q: float, z: float, orders: tuple[float, ...]) -> np.ndarray:
    """Renyi divergences of one step: an epsilon and its check ask for them three times."""
    found: np.ndarray = opacus_rdp.compute_rdp(
        q=q, noise_multiplier=z, steps=1, orders=list(orders)
    )
    found.flags.writeable = False
    return found


@functools.lru_cache(maxsize=4096)
def _replace_one_rdp(q: float, z: float, order: float) -> float:
    """Renyi divergence of (1-q) N(0) + q N(1) from (1-q) N(0) + q N(-1), by the trapezoid rule.

    The integrand is smooth and falls off like a Gaussian of deviation z around at most
    ``2 order - 1``, where the grid is fine enough to be exact in double precision.
    """
    if q == 1:
        return 2 * order / z**2
    low, high = -1 - 40 * z, 2 * order - 1 + 40 * z
    num_points = max(_GRID, int(10 * (high - low) / z))
    x = np.linspace(low, high, num_points)
    center = math.log1p(-q) - x**2 / (2 * z**2)
    upper = np.logaddexp(center, math.log(q) - (x - 1) ** 2 / (2 * z**2))
    lower = np.logaddexp(center, math.log(q) - (x + 1) ** 2 / (2 * z**2))
    scale = math.log((x[1] - x[0]) / (z * math.sqrt(2 * math.pi)))
    total = float(logsumexp(order * upper + (1 - order) * lower)) + scale
    return max(0.0, total / (order - 1))
