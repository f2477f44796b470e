"""Epsilon of composed events, by two independent accountants that must agree.

- Poisson-sampled Gaussians: dp-accounting's PLD (pessimistic) and Opacus' PRV (its upper bound).
  The larger is reported; Opacus' RDP stands beside them, and must not be below either.
- Skellam sums: the RDP bound of Agarwal et al., converted by dp-accounting and by Opacus. Beside
  them the PLD of a Gaussian of the same variance, which no Skellam sum of this accuracy is below.

Neighbours differ by adding or removing one record (or one party). The GDP accountant is not used:
it is a limit theorem, and reports less than was spent.

Source: Koskela et al. (2020), arXiv:1906.03049 and Doroshenko et al. (2022), arXiv:2207.04380
(PLD); Gopi et al. (2021), arXiv:2106.02848 (PRV); Mironov (2017), arXiv:1702.07476 (RDP).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as opacus_rdp

from phoenix_secure.errors import PhoenixError
from phoenix_secure.privacy.events import Event, PoissonSampledGaussian, SkellamSum, merge
from phoenix_secure.privacy.skellam import skellam_rdp

__all__ = ["TOLERANCE", "AccountingError", "Epsilon", "epsilon_of"]

# Two accountants may differ by this much: 0.02 (twice PRV's own error bound) and one percent.
TOLERANCE = 0.02
_RELATIVE = 0.01
# Above this epsilon says nothing, PRV needs minutes and its grid overflows: RDP answers alone.
_LARGEST = 200.0
_ORDERS = (*(1 + i / 10 for i in range(1, 100)), *range(12, 64), 80, 96, 128, 192, 256, 512, 1024)
_WHOLE_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)


class AccountingError(PhoenixError):
    """Two accountants disagree, or an event is none that they know: no epsilon can be named."""

    exit_code = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Epsilon:
    """What some events spend at ``delta``.

    value      the epsilon to quote: the larger of the two accountants' figures
    figures    every accountant's own figure, by name
    """

    value: float
    delta: float
    figures: dict[str, float]


def epsilon_of(events: Sequence[Event], *, delta: float) -> Epsilon:
    """The (epsilon, delta) of all ``events`` together, adaptively composed.

    Guarantee:  an upper bound, but for the accountants' floating-point arithmetic.
    Raises:     ValueError for delta outside (0, 1); AccountingError where the two accountants
                differ by more than ``TOLERANCE`` and one percent.
    """
    if not 0 < delta < 1:
        raise ValueError(f"expected 0 < delta < 1, got {delta}")
    merged = merge(events)
    if not merged:
        return Epsilon(value=0.0, delta=delta, figures={})
    found = _epsilon(merged, delta)
    # The cached dictionary is not handed out: who changed it would change everybody's figures.
    return Epsilon(value=found.value, delta=delta, figures=dict(found.figures))


@functools.lru_cache(maxsize=512)
def _epsilon(events: tuple[Event, ...], delta: float) -> Epsilon:
    gaussians = [each for each in events if isinstance(each, PoissonSampledGaussian)]
    skellams = [each for each in events if isinstance(each, SkellamSum)]
    if len(gaussians) + len(skellams) != len(events):
        raise AccountingError("an event of an unknown kind: no epsilon can be computed")
    if not skellams:
        return _gaussian_epsilon(gaussians, delta)
    return _skellam_epsilon(skellams, gaussians, delta)


def _gaussian_epsilon(events: list[PoissonSampledGaussian], delta: float) -> Epsilon:
    figures = {"rdp (opacus)": _opacus_rdp_epsilon(events, delta)}
    if figures["rdp (opacus)"] > _LARGEST:
        figures["rdp (dp-accounting)"] = _converted(_gaussian_rdp(events), delta)
        return _agreed(figures, ("rdp (opacus)", "rdp (dp-accounting)"), delta)
    figures["pld (dp-accounting)"] = _pld_epsilon(events, delta)
    figures["prv (opacus)"] = _prv_epsilon(events, delta)
    if figures["rdp (opacus)"] < figures["pld (dp-accounting)"] - TOLERANCE:
        raise AccountingError(f"the RDP bound is below the PLD one ({figures}): one is wrong")
    return _agreed(figures, ("pld (dp-accounting)", "prv (opacus)"), delta)


def _skellam_epsilon(
    skellams: list[SkellamSum], gaussians: list[PoissonSampledGaussian], delta: float
) -> Epsilon:
    """RDP of everything, converted twice; the Gaussian of the same variance as a floor."""
    curve = np.zeros(len(_WHOLE_ORDERS))
    for event in skellams:
        curve += event.releases * np.array([skellam_rdp(event, order=a) for a in _WHOLE_ORDERS])
    if gaussians:
        curve += _gaussian_rdp(gaussians, orders=_WHOLE_ORDERS)
    figures = {
        "rdp (dp-accounting)": _converted(curve, delta, orders=_WHOLE_ORDERS),
        "rdp (opacus)": _opacus_converted(curve, delta),
    }
    stand_ins = [
        PoissonSampledGaussian(
            sampling_rate=1.0,
            noise_multiplier=math.sqrt(each.variance) / each.l2_sensitivity,
            steps=each.releases,
        )
        for each in skellams
    ]
    if max(figures.values()) <= _LARGEST:
        floor = _pld_epsilon([*stand_ins, *gaussians], delta)
        figures["pld of the gaussian of this variance"] = floor
        if max(figures["rdp (opacus)"], figures["rdp (dp-accounting)"]) < floor - TOLERANCE:
            raise AccountingError(f"Skellam noise is below Gaussian noise ({figures})")
    return _agreed(figures, ("rdp (dp-accounting)", "rdp (opacus)"), delta)


def _agreed(figures: dict[str, float], pair: tuple[str, str], delta: float) -> Epsilon:
    first, second = (figures[name] for name in pair)
    if not (math.isfinite(first) and math.isfinite(second)):
        raise AccountingError(f"an accountant found no finite epsilon ({figures}): add noise")
    if abs(first - second) > TOLERANCE + _RELATIVE * max(first, second):
        raise AccountingError(
            f"two accountants disagree: {pair[0]} says {first:.4g}, {pair[1]} {second:.4g}: "
            "no epsilon is claimed; choose a larger delta or noise"
        )
    return Epsilon(value=max(first, second), delta=delta, figures=figures)


def _pld_epsilon(events: Sequence[PoissonSampledGaussian], delta: float) -> float:
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-4
    )
    for event in _shortened(events):
        gaussian: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        if event.sampling_rate < 1:
            gaussian = dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
        accountant.compose(dp_accounting.SelfComposedDpEvent(gaussian, event.steps))
    return float(accountant.get_epsilon(delta))


def _prv_epsilon(events: Sequence[PoissonSampledGaussian], delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = _history(_shortened(events))
    # The loss is infinite where its density is zero; and PRV asks RDP for the size of its grid,
    # which warns when the best order is its largest.
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


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


def _opacus_rdp_epsilon(events: Sequence[PoissonSampledGaussian], delta: float) -> float:
    accountant = RDPAccountant()
    accountant.history = _history(events)
    with warnings.catch_warnings():
        # Opacus warns when the best order is its largest; the bound holds all the same.
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def _opacus_converted(curve: np.ndarray, delta: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = opacus_rdp.get_privacy_spent(orders=list(_WHOLE_ORDERS), rdp=curve, delta=delta)
    return float(found[0])


def _history(events: Sequence[PoissonSampledGaussian]) -> list[tuple[float, float, int]]:
    return [(each.noise_multiplier, each.sampling_rate, each.steps) for each in events]


def _gaussian_rdp(
    events: Sequence[PoissonSampledGaussian], *, orders: Sequence[float] = _ORDERS
) -> np.ndarray:
    total = np.zeros(len(orders))
    for each in events:
        total += opacus_rdp.compute_rdp(
            q=each.sampling_rate,
            noise_multiplier=each.noise_multiplier,
            steps=each.steps,
            orders=list(orders),
        )
    return total


def _converted(curve: np.ndarray, delta: float, *, orders: Sequence[float] = _ORDERS) -> float:
    return float(rdp.rdp_privacy_accountant.compute_epsilon(list(orders), curve, delta)[0])
