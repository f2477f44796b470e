"""A game whose adversary says whether a record is in a noised sum, and the bound that it proves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from attacks.epsilon.independent import epsilon_from_counts
from phoenix_secure.federation.secagg.terms import SecureTerms

__all__ = ["honest_deviation", "proven_epsilon", "weakened"]


def weakened(terms: SecureTerms, *, noise: float) -> SecureTerms:
    """The terms of sites that draw ``noise`` times the noise that they should."""
    assert terms.noise is not None
    drawn = math.ceil(noise**2 * terms.noise.share_variance)
    weak = dataclasses.replace(terms.noise, share_variance=float(drawn))
    return dataclasses.replace(terms, noise=weak)


def honest_deviation(terms: SecureTerms) -> float:
    """Of the honest shares in a sum of the fewest survivors."""
    assert terms.noise is not None
    return math.sqrt((terms.threshold - terms.num_colluders) * terms.noise.share_variance)


def proven_epsilon(
    says_yes: Callable[[bool], bool], *, with_it: int, without: int, delta: float
) -> float:
    """A bound on epsilon, false with a probability of 5 %, from so many games of either kind.

    says_yes    whether the adversary takes the record for present, where it is and where it is not
    """
    hits = sum(says_yes(True) for _ in range(with_it))
    false_alarms = sum(says_yes(False) for _ in range(without))
    return epsilon_from_counts(
        false_positives=false_alarms,
        num_out=without,
        false_negatives=with_it - hits,
        num_in=with_it,
        delta=delta,
    )
