"""The server's side of a partial exchange, around any way of aggregating."""

from __future__ import annotations

from dataclasses import replace

from phoenix_secure.federation.heterogeneity.exchange import Exchange
from phoenix_secure.federation.round.aggregate import Aggregate, Aggregator, Stages
from phoenix_secure.federation.round.messages import TrainRequest

__all__ = ["PartialAggregator"]


class PartialAggregator:
    """Sends what is shared, and puts the sum of the answers where it belongs.

    ``inner`` must expect answers of ``exchange.num_uploaded`` parameters.
    """

    def __init__(self, inner: Aggregator, *, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def members(self) -> tuple[str, ...]:
        """The members of ``inner``."""
        return self._inner.members()

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """One round; the request's parameters and the update are the whole vector (d,).

        Raises:     as ``inner``.
        """
        shared = replace(request, parameters=self._exchange.to_sites(request.parameters))
        found = yield from self._inner.aggregate(shared, cohort=cohort)
        update = self._exchange.from_sites(found.update, round_number=request.round_number)
        return replace(found, update=update)
