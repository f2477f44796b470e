"""Epsilon once more, by code that shares nothing with the run's own figure but the events.

The run quotes the larger of Opacus' PRV and dp-accounting's PLD (``privacy.accounting``). Here
dp-accounting alone answers, without torch: PLD for Poisson-sampled Gaussians, and for Skellam sums
the RDP bound of Agarwal et al. beside dp-accounting's own RDP of the Gaussians.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp

from phoenix_secure.privacy.events import Event, PoissonSampledGaussian, SkellamSum, merge
from phoenix_secure.privacy.skellam import skellam_rdp

__all__ = ["RELATIVE", "TOLERANCE", "agrees", "recomputed_epsilon"]

# As in privacy.accounting: twice PRV's own error bound, and one percent.
TOLERANCE = 0.02
RELATIVE = 0.01
# Whole orders: those between are slow and add little to a bound that only answers alone
# above _LARGEST or for Skellam noise, whose formula knows no others.
_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
_LARGEST = 200.0  # above it a PLD needs minutes, and epsilon says nothing


def recomputed_epsilon(events: Sequence[Event], *, delta: float) -> float:
    """The epsilon of all ``events`` together, adaptively composed.

    Neighbours:  add or remove one record (or one party).
    Raises:      ValueError for delta outside (0, 1).
    Source:      Koskela et al. (2020), arXiv:1906.03049; Agarwal et al. (2021), arXiv:2110.04995.
    """
    if not 0 < delta < 1:
        raise ValueError(f"expected 0 < delta < 1, got {delta}")
    merged = merge(events)
    return _epsilon(merged, delta) if merged else 0.0


@functools.lru_cache(maxsize=256)
def _epsilon(merged: tuple[Event, ...], delta: float) -> float:
    gaussians = [each for each in merged if isinstance(each, PoissonSampledGaussian)]
    skellams = [each for each in merged if isinstance(each, SkellamSum)]
    if skellams:
        return _by_rdp(gaussians, skellams, delta=delta)
    bound = _by_rdp(gaussians, [], delta=delta)
    return bound if bound > _LARGEST else _by_pld(gaussians, delta=delta)


def agrees(claimed: float, recomputed: float) -> bool:
    """Whether two accountants' figures are the same within their error bounds."""
    return abs(claimed - recomputed) <= TOLERANCE + RELATIVE * max(claimed, recomputed)


def _event(each: PoissonSampledGaussian) -> dp_accounting.DpEvent:
    gaussian: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(each.noise_multiplier)
    if each.sampling_rate < 1:
        gaussian = dp_accounting.PoissonSampledDpEvent(each.sampling_rate, gaussian)
    return dp_accounting.SelfComposedDpEvent(gaussian, each.steps)


def _by_pld(events: Sequence[PoissonSampledGaussian], *, delta: float) -> float:
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-4
    )
    for each in events:
        if each.sampling_rate == 1:
            # T Gaussians on all records are exactly one of z / sqrt(T): no grid error adds up.
            single = dp_accounting.GaussianDpEvent(each.noise_multiplier / math.sqrt(each.steps))
            accountant.compose(single)
        else:
            accountant.compose(_event(each))
    return float(accountant.get_epsilon(delta))


def _by_rdp(
    gaussians: Sequence[PoissonSampledGaussian], skellams: Sequence[SkellamSum], *, delta: float
) -> float:
    curve = np.zeros(len(_ORDERS))
    for each in skellams:
        curve += each.releases * np.array([skellam_rdp(each, order=a) for a in _ORDERS])
    if gaussians:
        accountant = rdp.RdpAccountant(list(_ORDERS))
        for gaussian in gaussians:
            accountant.compose(_event(gaussian))
        curve += np.asarray(accountant.rdp)
    return float(rdp.rdp_privacy_accountant.compute_epsilon(list(_ORDERS), curve, delta)[0])
