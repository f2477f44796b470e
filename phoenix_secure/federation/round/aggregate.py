"""A round's mean update, and how it is obtained: in plaintext or by secure aggregation."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import SecureRoundRecord, StageReport
from phoenix_secure.federation.round.state import ServerState

__all__ = ["Aggregate", "Aggregator", "Stages", "result_of"]

_ResultT = TypeVar("_ResultT")

# Work that yields a report after each stage, and then returns its result.
Stages = Generator[StageReport, None, _ResultT]


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """The outcome of one round over the sites that took part.

    Shape:      ``update`` (d,) float64, the mean of the updates weighted by images.
    """

    update: np.ndarray
    loss: float | None  # mean over sites, weighted by images; None where no site tells
    sites: tuple[str, ...]  # in the sum
    failures: dict[str, str]  # site -> why it is not
    num_images: int | None  # images that count, all sites together; None as above
    num_steps: int  # local steps, all sites together
    bytes_down: int
    bytes_up: int
    num_failed: int = 0  # of ``sites``, those whose training failed, where that is told
    unclipped_fraction: float | None = None  # noised share of updates within an adaptive clip norm
    secure: SecureRoundRecord | None = None  # None: the server saw every update
    state: ServerState | None = None  # the next one, where sites recomputed and confirmed it

    def __repr__(self) -> str:
        return f"<Aggregate over {len(self.sites)} sites>"


class Aggregator(Protocol):
    """Asks the sites of a cohort to train, and sums their answers."""

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """Send ``request`` to the sites of ``cohort`` and sum their updates, stage by stage.

        Raises:     TrainingError when too few sites are left.
        """
        ...

    def members(self) -> tuple[str, ...]:
        """The sites from which cohorts are sampled, sorted."""
        ...


def result_of(stages: Stages[_ResultT]) -> _ResultT:
    """The result of ``stages`` for a caller that reads no reports."""
    while True:
        try:
            next(stages)
        except StopIteration as end:
            result: _ResultT = end.value
            return result
