"""Exact binomial intervals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from scipy.stats import beta

__all__ = ["Interval", "Side", "clopper_pearson"]


class Side(Enum):
    """The errors that the confidence is spent on."""

    BOTH = "two-sided"
    UPPER = "upper bound"
    LOWER = "lower bound"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """[low, high], which covers the true value with probability at least ``confidence``."""

    low: float
    high: float
    confidence: float

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"expected 0 < confidence < 1, got {self.confidence}")
        if not self.low <= self.high:
            raise ValueError(f"expected low <= high, got [{self.low}, {self.high}]")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def clopper_pearson(
    num_successes: int, *, num_trials: int, confidence: float, side: Side = Side.BOTH
) -> Interval:
    """The exact interval of a binomial probability.

    Guarantee:  coverage >= ``confidence`` for every true probability, independent trials. With no
                success the 95 % upper bound is 1 - 0.05^(1/n), about 3/n (the rule of three).
    Source:     Clopper, Pearson (1934), Biometrika 26(4).

    >>> round(clopper_pearson(0, num_trials=299, confidence=0.95, side=Side.UPPER).high, 5)
    0.00997
    """
    if not 0 <= num_successes <= num_trials or num_trials < 1:
        raise ValueError(
            f"expected 0 <= num_successes <= num_trials >= 1, got {num_successes}, {num_trials}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"expected 0 < confidence < 1, got {confidence}")
    tail = (1 - confidence) / (2 if side is Side.BOTH else 1)
    low, high = 0.0, 1.0
    if side is not Side.UPPER and num_successes > 0:
        low = float(beta.ppf(tail, num_successes, num_trials - num_successes + 1))
    if side is not Side.LOWER and num_successes < num_trials:
        high = float(beta.isf(tail, num_successes + 1, num_trials - num_successes))
    return Interval(low=low, high=high, confidence=confidence)
