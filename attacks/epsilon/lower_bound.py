"""The bound to report: value, method, plan, correction, and the most it could have said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike

from attacks.epsilon import f_dp, one_run
from attacks.epsilon.guesses import Guesses, GuessPlan, count_guesses
from attacks.epsilon.trade_off import TradeOff, check_trade_off

__all__ = ["ClaimTest", "EpsilonLowerBound", "Method", "check_claim", "epsilon_lower_bound"]


class Method(Enum):
    """The bounded quantity: the epsilon of (epsilon, delta)-DP, or a Gaussian mechanism's curve."""

    STEINKE = "one run, (epsilon, delta)-DP (Steinke et al. 2023)"
    GAUSSIAN_F_DP = "one run, Gaussian trade-off (Mahloujifar et al. 2024)"


@dataclass(frozen=True, kw_only=True, slots=True)
class EpsilonLowerBound:
    """The mechanism is not more private than ``value``, with probability 1 - significance.

    ceiling:    the value had all guesses been right. A claim above it cannot be contradicted with
                these canaries: a low value then says nothing.
    guesses:    of the plan that gave the value; each of ``num_plans`` was tested at
                significance / num_plans.
    """

    value: float
    ceiling: float
    method: Method
    delta: float
    significance: float
    num_plans: int
    guesses: Guesses


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimTest:
    """contradicted: fewer than ``significance`` of honest mechanisms would look like this.

    can_contradict: whether a perfect attack would be enough. False means inconclusive, not passed.
    p_value:        smallest over plans, times their number (at most 1).
    """

    contradicted: bool
    can_contradict: bool
    p_value: float
    significance: float
    num_plans: int
    guesses: Guesses


def epsilon_lower_bound(
    scores: ArrayLike,
    *,
    inclusion: ArrayLike,
    plans: Sequence[GuessPlan],
    delta: float,
    rng: np.random.Generator,
    method: Method = Method.STEINKE,
    significance: float = 0.05,
) -> EpsilonLowerBound:
    """The largest bound over ``plans``, each at significance / len(plans) (Bonferroni).

    Shape:      scores (m,), one per canary, larger = included; inclusion (m,) fair coins.
    Guarantee:  ``value`` <= the true epsilon with probability >= 1 - significance when ``plans``
                was fixed before anyone saw the scores (for GAUSSIAN_F_DP: of a Gaussian mechanism).
    Raises:     ValueError for no plan, 0 < delta < 1 or 0 < significance < 1 violated, and as
                ``count_guesses``.
    """
    _check(plans, significance=significance)
    if not 0 < delta < 1:
        raise ValueError(f"expected 0 < delta < 1, got {delta}")
    share = significance / len(plans)
    bound: Callable[[Guesses], float]
    match method:
        case Method.STEINKE:
            bound = lambda g: one_run.epsilon_bound(g, delta=delta, significance=share)  # noqa: E731
        case Method.GAUSSIAN_F_DP:
            family = f_dp.gaussian_family(delta)
            bound = lambda g: f_dp.epsilon_bound(g, family=family, significance=share)  # noqa: E731
    played = [count_guesses(scores, inclusion=inclusion, plan=plan, rng=rng) for plan in plans]
    values = [bound(guesses) for guesses in played]
    best = int(np.argmax(values))
    return EpsilonLowerBound(
        value=values[best],
        ceiling=max(bound(_all_right(guesses)) for guesses in played),
        method=method,
        delta=delta,
        significance=significance,
        num_plans=len(plans),
        guesses=played[best],
    )


def check_claim(
    scores: ArrayLike,
    *,
    inclusion: ArrayLike,
    plans: Sequence[GuessPlan],
    trade_off: TradeOff,
    rng: np.random.Generator,
    significance: float = 0.05,
) -> ClaimTest:
    """Test the trade-off curve that was *claimed* (an accountant's own, ``from_profile``).

    Guarantee:  a mechanism with that trade-off is contradicted with probability <= significance.
    Raises:     ValueError when ``trade_off`` is none (``check_trade_off``), and as above.
    """
    _check(plans, significance=significance)
    check_trade_off(trade_off)
    played = [count_guesses(scores, inclusion=inclusion, plan=plan, rng=rng) for plan in plans]
    p_values = [f_dp.smallest_significance(g, trade_off=trade_off) for g in played]
    best = int(np.argmin(p_values))
    share = significance / len(plans)
    return ClaimTest(
        contradicted=p_values[best] <= share,
        can_contradict=any(
            f_dp.rejects(_all_right(g), trade_off=trade_off, significance=share) for g in played
        ),
        p_value=min(1.0, p_values[best] * len(plans)),
        significance=significance,
        num_plans=len(plans),
        guesses=played[best],
    )


def _check(plans: Sequence[GuessPlan], *, significance: float) -> None:
    if not plans:
        raise ValueError("expected at least one plan, fixed before the scores are computed")
    if not 0 < significance < 1:
        raise ValueError(f"expected 0 < significance < 1, got {significance}")


def _all_right(guesses: Guesses) -> Guesses:
    return Guesses(
        num_canaries=guesses.num_canaries,
        num_guesses=guesses.num_guesses,
        num_correct=guesses.num_guesses,
    )
