"""The server's side of a partial exchange, around any way of aggregating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phoenix_secure.federation.heterogeneity.exchange import Exchange
from phoenix_secure.federation.round.aggregate import Aggregate, Aggregator

__all__ = ["PartialAggregator"]


class PartialAggregator:
    """Sends what is shared, and puts the sum of the answers where it belongs.

    ``inner`` must expect answers of ``exchange.num_uploaded`` parameters.
    """

    def __init__(self, inner: Aggregator, *, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def members(self) -> tuple[str, ...]:
        """As ``inner``."""
        return self._inner.members()

    def aggregate(
        self,
        *,
        round_number: int,
        parameters: np.ndarray,
        cohort: tuple[str, ...],
        clip_factor: float = 1.0,
    ) -> Aggregate:
        """One round; ``parameters`` and the update are the whole vector (d,).

        Raises:     as ``inner``.
        """
        found = self._inner.aggregate(
            round_number=round_number,
            parameters=self._exchange.to_sites(parameters),
            cohort=cohort,
            clip_factor=clip_factor,
        )
        return replace(
            found, update=self._exchange.from_sites(found.update, round_number=round_number)
        )
