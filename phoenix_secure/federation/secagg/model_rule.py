"""The rule by which a run's model follows from its sums: the same object for server and sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.round.messages import TrainRequest, WireModel
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.newest import Newest
from phoenix_secure.federation.secagg.sum_step import KnownState, SumStep
from phoenix_secure.federation.secagg.terms import SecureTerms

__all__ = ["ModelRule"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ModelRule:
    """Where the model starts, and how it goes on.

    plan    32 bytes that name the run and all of its settings
    start   the state before the first round, from the run's seed; made when it is asked for
    step    from one state to the next
    sent    the coordinates that a site trains from: (d,) -> (s,)

    The newest model is kept for the other sites of a simulation, as the newest step is.
    """

    plan: bytes
    start: Callable[[], KnownState]
    step: SumStep
    sent: Callable[[np.ndarray], np.ndarray]
    _newest: Newest[tuple[bytes, int], WireModel] = field(default_factory=Newest)

    @classmethod
    def of(
        cls,
        config: RunConfig,
        *,
        terms: SecureTerms,
        plan: bytes,
        start: Callable[[], np.ndarray],
        place: Callable[[np.ndarray, int], np.ndarray] = lambda update, round_number: update,
        sent: Callable[[np.ndarray], np.ndarray] = lambda vector: vector,
    ) -> ModelRule:
        """The rule of a run that starts from the vector ``start()`` (d,)."""

        @cache
        def first() -> KnownState:
            return KnownState.of(ServerState.initial(start(), federation=config.federation))

        step = SumStep(config, terms=terms, place=place)
        return cls(plan=plan, start=first, step=step, sent=sent)

    def model(self, known: KnownState, *, round_number: int) -> WireModel:
        """The model to train ``round_number`` from, as it follows from ``known``."""
        key = known.digest, round_number
        return self._newest.get(
            key, lambda: WireModel.of(self.request(known.state, round_number=round_number))
        )

    def request(self, state: ServerState, *, round_number: int) -> TrainRequest:
        """The request to train ``round_number`` from ``state``.

        Its bytes are the model that the protocol's context binds.
        """
        return TrainRequest(
            round_number=round_number,
            parameters=self.sent(state.parameters),
            clip_factor=state.clip_factor,
        )
