"""Epsilon of composed events by dp-accounting: the computation behind ``accountant``.

Apart from it because dp-accounting loads scipy, which a report without differential privacy does
not need.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp

from phoenix_secure.privacy.events import (
    Adjacency,
    DiscreteGaussianSum,
    Event,
    PoissonSampledGaussian,
    SkellamSum,
)
from phoenix_secure.privacy.skellam import skellam_rdp

__all__ = ["composed_epsilon"]

_COARSEST = 1e-3
_RELATIONS = {
    Adjacency.ADD_OR_REMOVE_ONE: dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    Adjacency.REPLACE_ONE: dp_accounting.NeighboringRelation.REPLACE_ONE,
}
# Whole orders: Skellam's formula knows no others. For Gaussians they only choose PLD's grid, since
# they lose nearly everything where epsilon is large: 13,000 in place of 200 with little noise.
_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
_LARGEST = 400.0  # a bound that chooses the grid counts as this at most
_MOST_BINS = 1_000_000  # of one step's loss
# Above this bound reports of earlier versions quoted it, and made no PLD.
_OLD_LARGEST = 200.0


@functools.lru_cache(maxsize=256)
def composed_epsilon(
    merged: tuple[Event, ...], delta: float, adjacency: Adjacency, grid: float | None
) -> float:
    """The epsilon at ``delta`` of events that were merged, of which there is at least one."""
    gaussians = [each for each in merged if isinstance(each, PoissonSampledGaussian)]
    gaussians += [each.gaussian for each in merged if isinstance(each, DiscreteGaussianSum)]
    skellams = [each for each in merged if isinstance(each, SkellamSum)]
    if adjacency is Adjacency.REPLACE_ONE:
        return _replaced(gaussians, skellams, delta=delta)
    if skellams:
        return _by_rdp(gaussians, skellams, delta=delta)
    bound = _by_rdp(gaussians, [], delta=delta)
    if grid is None:
        grid = _grid(gaussians, min(_LARGEST, bound))
    elif bound > _OLD_LARGEST:
        return bound
    return _by_pld(gaussians, delta=delta, grid=grid)


def _replaced(
    gaussians: Sequence[PoissonSampledGaussian], skellams: Sequence[SkellamSum], *, delta: float
) -> float:
    if not skellams:
        # Replacing costs between once and a few times as much: near enough for the grid.
        bound = min(_LARGEST, _by_rdp(gaussians, [], delta=delta))
        return _by_pld(
            gaussians,
            delta=delta,
            grid=_grid(gaussians, bound),
            adjacency=Adjacency.REPLACE_ONE,
        )
    if gaussians:
        raise ValueError("expected releases under one unit: images and whole sites do not add up")
    twice = [dataclasses.replace(each, l2_sensitivity=2 * each.l2_sensitivity) for each in skellams]
    return _by_rdp([], twice, delta=delta)


def _grid(events: Sequence[PoissonSampledGaussian], epsilon: float) -> float:
    """So fine that all steps' roundings together widen the loss by next to nothing."""
    steps = sum(each.steps for each in events if each.sampling_rate < 1)
    fine = min(_COARSEST, epsilon / 4000, epsilon / (200 * math.sqrt(max(1, steps))))
    return max(fine, max(_span(each) for each in events) / _MOST_BINS)


def _span(each: PoissonSampledGaussian) -> float:
    """About the largest loss of one step, at ten standard deviations."""
    z = each.noise_multiplier / (math.sqrt(each.steps) if each.sampling_rate == 1 else 1.0)
    return (1 + 20 * z) / (2 * z**2)


def _event(each: PoissonSampledGaussian) -> dp_accounting.DpEvent:
    gaussian: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(each.noise_multiplier)
    if each.sampling_rate < 1:
        gaussian = dp_accounting.PoissonSampledDpEvent(each.sampling_rate, gaussian)
    return dp_accounting.SelfComposedDpEvent(gaussian, each.steps)


def _by_pld(
    events: Sequence[PoissonSampledGaussian],
    *,
    delta: float,
    grid: float,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
) -> float:
    accountant = pld.PLDAccountant(_RELATIONS[adjacency], value_discretization_interval=grid)
    for each in events:
        if each.sampling_rate == 1:
            # T Gaussians on all records are exactly one of z / sqrt(T): no grid error adds up.
            single = dp_accounting.GaussianDpEvent(each.noise_multiplier / math.sqrt(each.steps))
            accountant.compose(single)
        else:
            accountant.compose(_event(each))
    return float(accountant.get_epsilon(delta))


def _by_rdp(
    gaussians: Sequence[PoissonSampledGaussian],
    skellams: Sequence[SkellamSum],
    *,
    delta: float,
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
