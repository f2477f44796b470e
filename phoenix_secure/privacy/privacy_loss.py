"""Epsilon of Poisson-sampled Gaussians from the distribution of their privacy loss, by two codes.

- PLD of dp-accounting: a pessimistic discretisation of both directions; an upper bound.
- PRV of Opacus: an interval that holds the epsilon of the pair (with the record, without it).

The pairs of neighbours, with N(m) a Gaussian of mean m and deviation z:

==================  ========================  =========================
add or remove one   (1-q) N(0) + q N(1)       N(0), and the other way
replace one         (1-q) N(0) + q N(1)       (1-q) N(0) + q N(-1)
==================  ========================  =========================

The second pair dominates every replacement of a vector u by a vector v of norm at most 1. Write H
for the hockey-stick divergence at e^epsilon. As in amplification by sampling,
H(P, Q) = q E[(1 - c ((1-b) A + b B))_+] under N(u), where A and B are the likelihood ratios of
N(0) and N(v) to N(u), and b and c depend on q and epsilon alone. A and B are log-normal with mean
1. Each grows in convex order with its distance (from u to 0 at most 1, to v at most 2). A sum of
such is largest in convex order where they are comonotone: where 0 and v lie on one ray from u. So
v = -u, of norm 1. Dominating pairs compose (Zhu, Dong and Wang 2022, Theorem 10).

Source:     Koskela et al. (2020), arXiv:1906.03049 and Doroshenko et al. (2022), arXiv:2207.04380
            (PLD); Gopi et al. (2021), arXiv:2106.02848 (PRV); Balle, Barthe and Gaboardi (2018),
            arXiv:1807.01647, Theorem 2 (advanced joint convexity); Zhu et al., arXiv:2106.08567.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import dp_accounting
import numpy as np
from dp_accounting import pld
from opacus.accountants.analysis import prv
from scipy.special import ndtr

from phoenix_secure.privacy.events import Adjacency, PoissonSampledGaussian
from phoenix_secure.privacy.renyi import epsilon_by_opacus, rdp_curve

__all__ = ["Interval", "pld_epsilon", "prv_epsilon"]

_RELATIONS = {
    Adjacency.ADD_OR_REMOVE_ONE: dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    Adjacency.REPLACE_ONE: dp_accounting.NeighboringRelation.REPLACE_ONE,
}
# A step's discretisation adds at most interval^2 / 4 to the variance of the loss. With these the
# epsilon of T steps grows by less than 0.2 percent.
_INTERVAL = 5e-4
_INTERVAL_OF_ROOT_STEPS = 0.012
_COARSEST = 3e-3
# A step's losses are spread over at most so many intervals, however small epsilon is.
_LARGEST_STEP = 1 << 17
# PRV's error bound: one percent of epsilon, at most what its proof is trusted for, and no less than
# a grid of this size has.
_PRV_ERROR = 0.01
_LARGEST_PRV_ERROR = 0.5
_LARGEST_GRID = 1 << 21


@dataclass(frozen=True, slots=True)
class Interval:
    """``low`` <= epsilon <= ``high``."""

    low: float
    high: float


def pld_epsilon(
    events: Sequence[PoissonSampledGaussian],
    *,
    delta: float,
    adjacency: Adjacency,
    estimate: float,
) -> float:
    """An upper bound of epsilon by dp-accounting, within about 0.2 percent.

    estimate   of epsilon, from above, such as RDP's: it chooses the grid and no more
    """
    found = estimate
    interval = math.inf
    # RDP can be far above the truth where epsilon is small: then the grid is chosen once more.
    while _interval(events, found) < interval / 1.5:
        interval = _interval(events, found)
        accountant = pld.PLDAccountant(
            _RELATIONS[adjacency], value_discretization_interval=interval
        )
        for event in _shortened(events):
            gaussian: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            if event.sampling_rate < 1:
                gaussian = dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
            accountant.compose(dp_accounting.SelfComposedDpEvent(gaussian, event.steps))
        found = float(accountant.get_epsilon(delta))
        if not 0 < found < math.inf:
            break
    return found


def prv_epsilon(
    events: Sequence[PoissonSampledGaussian],
    *,
    delta: float,
    adjacency: Adjacency,
    estimate: float,
) -> Interval:
    """An interval for epsilon by Opacus' PRV composition.

    Its error is at most one percent each way, or that of a grid of two million points.

    estimate   of epsilon: it chooses the grid and no more

    Raises:     ValueError or RuntimeError where double precision is not enough.
    """
    short = _shortened(events)
    delta_error = delta / 1000
    reach = _reach(short, adjacency, delta_error)
    roughness = math.sqrt(sum(each.steps for each in short) * math.log(12 / delta_error) / 2)
    error = max(_PRV_ERROR * estimate, 2 * reach * roughness / _LARGEST_GRID)
    error = min(error, _LARGEST_PRV_ERROR)
    domain = prv.Domain.create_aligned(-reach, reach, error / roughness)
    # The loss is infinite where its density is zero.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = [
            prv.discretize(
                prv.TruncatedPrivacyRandomVariable(
                    _loss(each, adjacency), domain.t_min, domain.t_max
                ),
                domain,
            )
            for each in short
        ]
        composed = prv.compose_heterogeneous(steps, [each.steps for each in short])
        low, _, high = composed.compute_epsilon(delta, delta_error, error)
    return Interval(float(low), float(high))


class _ReplaceOneLoss:
    """Privacy loss log P/Q under P of the replace-one pair; it is the same the other way.

    Its inverse: x = z^2 (t/2 + asinh(((1-q)/q) e^(1/(2 z^2)) sinh(t/2))).
    """

    def __init__(self, sampling_rate: float, noise_multiplier: float) -> None:
        self._q, self._z = sampling_rate, noise_multiplier

    def cdf(self, t: np.ndarray) -> np.ndarray:
        q, z = self._q, self._z
        half = np.asarray(t, dtype=float) / 2
        x = z**2 * half
        if q < 1:
            # In logarithms: the factor overflows where there is little noise.
            size = np.abs(half)
            log_sinh = size + np.log(-np.expm1(-2 * size)) - math.log(2)
            log_factor = log_sinh + math.log1p(-q) - math.log(q) + 1 / (2 * z**2)
            small = np.arcsinh(np.exp(np.minimum(log_factor, 30.0)))
            x = x + z**2 * np.sign(half) * np.where(
                log_factor > 30.0, log_factor + math.log(2), small
            )
        found: np.ndarray = (1 - q) * ndtr(x / z) + q * ndtr((x - 1) / z)
        return found


def _loss(
    event: PoissonSampledGaussian, adjacency: Adjacency
) -> prv.PoissonSubsampledGaussianPRV | _ReplaceOneLoss:
    if adjacency is Adjacency.REPLACE_ONE:
        return _ReplaceOneLoss(event.sampling_rate, event.noise_multiplier)
    return prv.PoissonSubsampledGaussianPRV(event.sampling_rate, event.noise_multiplier)


def _reach(
    events: Sequence[PoissonSampledGaussian], adjacency: Adjacency, delta_error: float
) -> float:
    """The grid's reach on either side of 0 (Gopi et al., remark 5.6)."""
    most = epsilon_by_opacus(*rdp_curve(events, adjacency=adjacency), delta_error / 4)
    num_steps = sum(each.steps for each in events)
    for each in events:
        once = rdp_curve([dataclasses.replace(each, steps=1)], adjacency=adjacency)
        most = max(most, epsilon_by_opacus(*once, delta_error / (8 * num_steps)))
    return most + 3


def _interval(events: Sequence[PoissonSampledGaussian], epsilon: float) -> float:
    steps = sum(each.steps for each in events if each.sampling_rate < 1)
    fine = min(_INTERVAL, _INTERVAL_OF_ROOT_STEPS / math.sqrt(max(1, steps))) * epsilon
    return max(min(_COARSEST, fine), max(_span(each) for each in events) / _LARGEST_STEP)


def _span(event: PoissonSampledGaussian) -> float:
    """About the largest loss of one step that is not cut off as a tail: log(1 - q + q e^l)."""
    q, z = event.sampling_rate, event.noise_multiplier
    z /= math.sqrt(event.steps) if q == 1 else 1.0
    largest = (1 + 2 * 10 * z) / (2 * z**2)
    sampled = math.log(q) + largest if largest > 500 else math.log1p(q * math.expm1(largest))
    return max(1e-3, sampled)


def _shortened(events: Sequence[PoissonSampledGaussian]) -> list[PoissonSampledGaussian]:
    """T Gaussians of multiplier z on all records are exactly one of z / sqrt(T)."""
    return [
        dataclasses.replace(
            each, noise_multiplier=each.noise_multiplier / math.sqrt(each.steps), steps=1
        )
        if each.sampling_rate == 1
        else each
        for each in events
    ]
