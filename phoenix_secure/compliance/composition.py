"""Epsilon of composed events by dp-accounting: the computation behind ``accountant``.

Apart from it because dp-accounting loads scipy, which a report without differential privacy does
not need.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp

from phoenix_secure.privacy.events import Event, PoissonSampledGaussian, SkellamSum
from phoenix_secure.privacy.skellam import skellam_rdp

__all__ = ["composed_epsilon"]

# Whole orders: those between are slow and add little to a bound that only answers alone
# above _LARGEST or for Skellam noise, whose formula knows no others.
_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
_LARGEST = 200.0  # above it a PLD needs minutes, and epsilon says nothing


@functools.lru_cache(maxsize=256)
def composed_epsilon(merged: tuple[Event, ...], delta: float) -> float:
    """The epsilon at ``delta`` of events that were merged, of which there is at least one."""
    gaussians = [each for each in merged if isinstance(each, PoissonSampledGaussian)]
    skellams = [each for each in merged if isinstance(each, SkellamSum)]
    if skellams:
        return _by_rdp(gaussians, skellams, delta=delta)
    bound = _by_rdp(gaussians, [], delta=delta)
    return bound if bound > _LARGEST else _by_pld(gaussians, delta=delta)


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
