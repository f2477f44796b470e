"""SCAFFOLD's control variates, without a byte more than FedAvg.

A site's own control variate is its mean gradient of the last round, the common one their mean;
every local step goes along the gradient, minus the own, plus the common one. With all sites in
every round, one local rate and a server that takes the mean update, the common one is what the
global model moved by: every site sees it anyhow, and nothing but the update leaves a site.

Moves are told per unit of learning rate: under SGD that is minus the mean gradient, which is Option
II exactly; under AdamW it is the same correction of the steps that the optimizer takes.

Source: Karimireddy et al. (2020), SCAFFOLD, arXiv:1910.06378, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.training.schedule import rates_of_round

__all__ = ["Moved", "drift", "moved"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moved:
    """What a site keeps of a round. Shape: both (d,) float32.

    start    the global model that it began from
    own      its move per unit of learning rate, the correction taken out again
    """

    start: np.ndarray
    own: np.ndarray

    def __repr__(self) -> str:
        return f"<Moved of {self.start.size} parameters>"


def drift(
    before: Moved | None, parameters: np.ndarray, *, config: RunConfig, since: int, now: int
) -> np.ndarray | None:
    """The correction of each step per unit of learning rate (d,); None in a site's first round.

    ``before`` is of round ``since``; several rounds may lie between it and ``now``.
    """
    if before is None:
        return None
    rates = sum(rates_of_round(config, number) for number in range(since, now))
    correction: np.ndarray = (parameters - before.start) / np.float32(rates)
    correction -= before.own
    return correction


def moved(
    parameters: np.ndarray,
    delta: np.ndarray,
    correction: np.ndarray | None,
    *,
    config: RunConfig,
    round_number: int,
) -> Moved:
    """What to keep of a round that went from ``parameters`` by ``delta``."""
    own = delta / np.float32(rates_of_round(config, round_number))
    if correction is not None:
        own -= correction
    return Moved(start=parameters.copy(), own=own)
