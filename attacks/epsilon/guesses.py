"""The one-run game: m canaries, each trained on with probability 1/2, and a budget of guesses.

The budget is part of the audit's plan. Chosen after looking at the scores, it raises the false
alarm of a nominal 5 % bound to 40 % (measured on published code); a grid of budgets is allowed
when the significance is divided by its size, which ``lower_bound`` does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from attacks.records import check_membership, check_scores

__all__ = ["GuessPlan", "Guesses", "count_guesses"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuessPlan:
    """Guess "included" for the highest scores and "left out" for the lowest; abstain between."""

    num_included: int
    num_left_out: int

    def __post_init__(self) -> None:
        if min(self.num_included, self.num_left_out) < 0 or self.num_guesses < 1:
            raise ValueError(
                "expected num_included >= 0, num_left_out >= 0 and one guess at least, got "
                f"{self.num_included} and {self.num_left_out}"
            )

    @property
    def num_guesses(self) -> int:
        """r of the paper."""
        return self.num_included + self.num_left_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Guesses:
    """The number of right guesses of ``num_guesses``, among ``num_canaries``."""

    num_canaries: int
    num_guesses: int
    num_correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.num_correct <= self.num_guesses <= self.num_canaries:
            raise ValueError(
                "expected 0 <= num_correct <= num_guesses <= num_canaries, got "
                f"{self.num_correct}, {self.num_guesses}, {self.num_canaries}"
            )
        if self.num_guesses < 1:
            raise ValueError("expected at least one guess")


def count_guesses(
    scores: ArrayLike, *, inclusion: ArrayLike, plan: GuessPlan, rng: np.random.Generator
) -> Guesses:
    """Play ``plan`` on the canaries' scores (larger = included).

    Guarantee:  equal scores are ordered by ``rng``, so that neither the order of the canaries nor
                their inclusion decides a tie.
    Raises:     ValueError for more guesses than canaries, or an inclusion so far from one half that
                it was not drawn by fair coins (chance below 1e-9): the bounds would not hold.
    """
    values = check_scores(scores)
    included = check_membership(inclusion, num_records=len(values))
    m = len(values)
    if plan.num_guesses > m:
        raise ValueError(f"the plan makes {plan.num_guesses} guesses on {m} canaries")
    fewer = int(min(included.sum(), m - included.sum()))
    if 2 * binom.cdf(fewer, m, 0.5) < 1e-9:
        raise ValueError(
            f"{int(included.sum())} of {m} canaries were included; "
            "draw each with probability 1/2 (epsilon.canaries.draw_inclusion)"
        )
    order = np.lexsort((rng.random(m), values))
    lowest = order[: plan.num_left_out]
    highest = order[m - plan.num_included :]
    return Guesses(
        num_canaries=m,
        num_guesses=plan.num_guesses,
        num_correct=int(included[highest].sum() + (~included[lowest]).sum()),
    )
