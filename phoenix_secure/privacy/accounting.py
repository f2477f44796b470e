"""Epsilon of composed events, by two independent accountants that must agree.

- Poisson-sampled Gaussians: dp-accounting's PLD is quoted. It rounds against itself and covers both
  directions (a record more, a record less), so it is an upper bound. Opacus' PRV gives an interval
  that holds the epsilon of one direction: PLD must not be below it, and not above it by more than
  PLD's grid explains. PRV's upper end is not quoted: it carries PRV's error bound, a tenth of an
  epsilon of 0.1. The RDP bound stands beside both, and must not be below PLD.
- Skellam sums: the RDP bound of Agarwal et al., converted by dp-accounting and by Opacus; the
  larger is quoted. Beside them the PLD of a Gaussian of the same variance, which no Skellam sum of
  this accuracy is below.
- Sums with discrete Gaussian noise: as the continuous mechanism that dominates them
  (``events.DiscreteGaussianSum``), by PLD and PRV.

Neighbours differ by adding or removing one record (or one party), or by replacing one: see
``Adjacency`` and ``privacy_loss``. The GDP accountant is not used: it is a limit theorem, and
reports less than was spent.

Source: Koskela et al. (2020), arXiv:1906.03049 and Doroshenko et al. (2022), arXiv:2207.04380
(PLD); Gopi et al. (2021), arXiv:2106.02848 (PRV); Mironov (2017), arXiv:1702.07476 (RDP).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from phoenix_secure.errors import PhoenixError
from phoenix_secure.privacy.budget import LEAST_DELTA
from phoenix_secure.privacy.events import (
    Adjacency,
    DiscreteGaussianSum,
    Event,
    PoissonSampledGaussian,
    SkellamSum,
    merge,
)
from phoenix_secure.privacy.privacy_loss import pld_epsilon, prv_epsilon
from phoenix_secure.privacy.renyi import epsilon_by_dp_accounting, epsilon_by_opacus, rdp_curve

__all__ = ["AccountingError", "Epsilon", "bound_of", "epsilon_of"]

# What PLD's grid may add to epsilon beyond the upper end of PRV's interval, and what two
# conversions of one RDP curve may differ by.
_RELATIVE = 0.01
_ROUNDING = 3e-4
_CONVERSION = 0.02
# Above this RDP bound epsilon says nothing, and PRV's grid overflows: RDP answers alone.
_LARGEST = 400.0
# Below this multiplier noise hides nothing, and its square is near what double precision holds.
_LEAST_NOISE = 1e-9
_PLD, _PRV = "pld (dp-accounting)", "prv (opacus)"
_RDP, _OTHER_RDP = "rdp (opacus)", "rdp (dp-accounting)"
_FLOOR = "pld of the gaussian of this variance"


class AccountingError(PhoenixError):
    """Two accountants disagree, or an event is none that they know: no epsilon can be named."""

    exit_code = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Epsilon:
    """The epsilon that some events spend at ``delta`` under ``adjacency``.

    value      the epsilon to quote
    figures    every accountant's own figure, by name; of an interval its upper end
    """

    value: float
    delta: float
    figures: dict[str, float]
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE


def epsilon_of(
    events: Sequence[Event],
    *,
    delta: float,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
) -> Epsilon:
    """The (epsilon, delta) of all ``events`` together, adaptively composed.

    Guarantee:  an upper bound, but for the accountants' floating-point arithmetic.
    Raises:     ValueError for delta outside [1e-12, 1); AccountingError where the two accountants
                differ by more than their error bounds, or there is next to no noise.
    """
    merged = _checked(events, delta)
    if not merged:
        return Epsilon(value=0.0, delta=delta, figures={}, adjacency=adjacency)
    found = _epsilon(merged, delta, adjacency)
    # The cached dictionary is not handed out: who changed it would change everybody's figures.
    return dataclasses.replace(found, figures=dict(found.figures))


def bound_of(events: Sequence[Event], *, delta: float) -> float:
    """The figure that ``epsilon_of`` would quote under add or remove one, before it is compared.

    For searches, which ask often. Infinite where no accountant finds a finite one.
    """
    merged = _checked(events, delta)
    if not merged:
        return 0.0
    figures = _bounds(merged, delta, Adjacency.ADD_OR_REMOVE_ONE)
    return figures[_PLD] if _PLD in figures else max(figures.values())


def _checked(events: Sequence[Event], delta: float) -> tuple[Event, ...]:
    if not LEAST_DELTA <= delta < 1:
        raise ValueError(f"expected {LEAST_DELTA:g} <= delta < 1, got {delta}")
    merged = merge(events)
    for event in merged:
        if isinstance(event, PoissonSampledGaussian) and event.noise_multiplier < _LEAST_NOISE:
            raise AccountingError(
                f"a noise multiplier of {event.noise_multiplier:g} hides nothing: no epsilon is "
                "claimed; set 0.3 or more"
            )
    return merged


@functools.lru_cache(maxsize=512)
def _epsilon(events: tuple[Event, ...], delta: float, adjacency: Adjacency) -> Epsilon:
    figures = dict(_bounds(events, delta, adjacency))
    gaussians, skellams = _split(events)
    if _PLD in figures:
        return _compared_with_prv(gaussians, figures, delta=delta, adjacency=adjacency)
    first, second = figures[_RDP], figures[_OTHER_RDP]
    if not (math.isfinite(first) and math.isfinite(second)):
        raise AccountingError(f"an accountant found no finite epsilon ({figures}): add noise")
    if abs(first - second) > _CONVERSION + _RELATIVE * max(first, second):
        raise _disagreement(f"{_RDP} says {first:.4g}, {_OTHER_RDP} {second:.4g}")
    if skellams and max(first, second) <= _LARGEST:
        figures[_FLOOR] = _floor(skellams, gaussians, delta, adjacency)
        if max(first, second) < figures[_FLOOR] - _CONVERSION:
            raise AccountingError(f"Skellam noise is below Gaussian noise ({figures})")
    return Epsilon(value=max(first, second), delta=delta, figures=figures, adjacency=adjacency)


@functools.lru_cache(maxsize=512)
def _bounds(events: tuple[Event, ...], delta: float, adjacency: Adjacency) -> dict[str, float]:
    """Upper bounds by name: RDP, and PLD or a second conversion of RDP beside it."""
    gaussians, skellams = _split(events)
    orders, curve = rdp_curve(gaussians, skellams, adjacency=adjacency)
    figures = {_RDP: epsilon_by_opacus(orders, curve, delta)}
    if skellams or not figures[_RDP] <= _LARGEST:
        figures[_OTHER_RDP] = epsilon_by_dp_accounting(orders, curve, delta)
    else:
        figures[_PLD] = pld_epsilon(
            gaussians, delta=delta, adjacency=adjacency, estimate=figures[_RDP]
        )
    return figures


def _split(events: Sequence[Event]) -> tuple[list[PoissonSampledGaussian], list[SkellamSum]]:
    gaussians = [each for each in events if isinstance(each, PoissonSampledGaussian)]
    gaussians += [each.gaussian for each in events if isinstance(each, DiscreteGaussianSum)]
    skellams = [each for each in events if isinstance(each, SkellamSum)]
    if len(gaussians) + len(skellams) != len(events):
        raise AccountingError("an event of an unknown kind: no epsilon can be computed")
    return gaussians, skellams


def _compared_with_prv(
    events: list[PoissonSampledGaussian],
    figures: dict[str, float],
    *,
    delta: float,
    adjacency: Adjacency,
) -> Epsilon:
    pld, rdp = figures[_PLD], figures[_RDP]
    if not math.isfinite(pld):
        raise AccountingError(f"an accountant found no finite epsilon ({figures}): add noise")
    if rdp < pld * (1 - _RELATIVE) - _ROUNDING:
        raise AccountingError(f"the RDP bound is below the PLD one ({figures}): one is wrong")
    if pld > 0:  # PRV knows no epsilon of zero, which delta alone covers
        try:
            prv = prv_epsilon(events, delta=delta, adjacency=adjacency, estimate=min(pld, rdp))
        except (ValueError, RuntimeError) as error:
            raise AccountingError(
                f"Opacus' PRV finds no epsilon beside PLD's {pld:.4g} at delta {delta:g} "
                f"({error}): no epsilon is claimed; choose a larger delta or noise"
            ) from error
        figures[_PRV] = prv.high
        # Written so that NaN is a disagreement too.
        if not prv.low - _ROUNDING <= pld <= prv.high * (1 + _RELATIVE) + _ROUNDING:
            raise _disagreement(
                f"{_PLD} says {pld:.4g}, {_PRV} between {prv.low:.4g} and {prv.high:.4g}"
            )
    return Epsilon(value=pld, delta=delta, figures=figures, adjacency=adjacency)


def _floor(
    skellams: list[SkellamSum],
    gaussians: list[PoissonSampledGaussian],
    delta: float,
    adjacency: Adjacency,
) -> float:
    """PLD with Gaussians of the same variance in place of the Skellam sums."""
    stand_ins = [
        PoissonSampledGaussian(
            sampling_rate=1.0,
            noise_multiplier=math.sqrt(each.variance) / each.l2_sensitivity,
            steps=each.releases,
        )
        for each in skellams
    ]
    together = [*stand_ins, *gaussians]
    orders, curve = rdp_curve(together, adjacency=adjacency)
    estimate = epsilon_by_opacus(orders, curve, delta)
    return pld_epsilon(together, delta=delta, adjacency=adjacency, estimate=estimate)


def _disagreement(figures: str) -> AccountingError:
    return AccountingError(
        f"two accountants disagree: {figures}: no epsilon is claimed; choose a larger delta or "
        "noise"
    )
