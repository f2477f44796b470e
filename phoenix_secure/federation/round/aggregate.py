"""What a round's sum of updates brings, whether it was secure or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

__all__ = ["Aggregate", "Aggregator"]


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
    within_clip: float | None = None  # noised share of updates within an adaptive clip norm
    secure: dict[str, Any] | None = field(default=None)  # the record of a secure round

    def __repr__(self) -> str:
        return f"<Aggregate over {len(self.sites)} sites>"


class Aggregator(Protocol):
    """How the sites are asked, and how their answers become one."""

    def aggregate(
        self,
        *,
        round_number: int,
        parameters: np.ndarray,
        cohort: tuple[str, ...],
        clip_factor: float = 1.0,
    ) -> Aggregate:
        """Train ``round_number`` at the sites of ``cohort`` and sum.

        clip_factor   the round's adaptive clip norm, in units of privacy.clip_norm

        Raises:     TrainingError when too few sites are left.
        """
        ...

    def members(self) -> tuple[str, ...]:
        """The sites among which cohorts are drawn, sorted."""
        ...
