"""Rosters change between rounds: who is in the next one is looked up before it begins.

The evidence comes first, then the sites hear of it: each takes what the federation's owner signed.
A site that did not hear refuses the round, since its context is of another roster; it is told again
before the next one.
"""

from __future__ import annotations

import logging

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import Engine, Failure, Reply
from phoenix_secure.federation.round.aggregate import Aggregate, Aggregator, Stages
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.stages import PLAN_STAGE, ROSTER_STAGE
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.server.party import RostersInForce, ServerParty

__all__ = ["RosterWatch", "WatchedAggregator"]

_log = logging.getLogger(__name__)
_DEADLINE_S = 60.0
_AGAIN_S = 10.0
_GRACE_S = 5.0


class RosterWatch:
    """The roster in force of one run.

    epoch   as the newest look found it
    """

    def __init__(self, party: ServerParty, engine: Engine, evidence: RunEvidence) -> None:
        self._party = party
        self._engine = engine
        self._evidence = evidence
        self._recorded: bytes | None = None
        self._told: set[str] = set()
        self._told_epoch = party.roster.epoch
        self.epoch = RoundEpoch.fixed(party.round_roster)

    def round_begins(self, round_number: int) -> None:
        """Look, record what is new, and tell the sites.

        Raises:     TrainingError where the plan does not go on under the roster in force.
        """
        if self._party.look is None:
            return
        try:
            found = self._party.look()
        except TrainingError as error:
            self._evidence.failed(round_number, kind=type(error).__name__)
            raise
        newest = found.chain.current.hash
        if newest != self._recorded:
            self._evidence.rosters(found.chain, round_number=round_number)
            self._recorded = newest
        returned = [
            site
            for site in self.epoch.removed
            if site not in found.epoch.removed and site in self._engine.sites
        ]
        self.epoch = found.epoch
        if found.epoch.number > self._party.roster.epoch:
            self._tell(found)
        if returned:
            # It may have heard of no plan while it was out.
            self._exchange(PLAN_STAGE, returned, self._party.plan, quorum=len(returned))

    def _tell(self, found: RostersInForce) -> None:
        is_new = found.epoch.number != self._told_epoch
        if is_new:
            for site, why in sorted(found.epoch.removed.items()):
                _log.warning("%s is in no round from now on: %s", site, why)
            self._told, self._told_epoch = set(), found.epoch.number
        # Also who is removed: an honest one then stops by itself.
        waiting = [site for site in self._engine.sites if site not in self._told]
        if not waiting:
            return
        answers = self._exchange(
            ROSTER_STAGE,
            waiting,
            found.chain.to_bytes(),
            deadline_s=_DEADLINE_S if is_new else _AGAIN_S,
            quorum=max(1, len([site for site in waiting if site not in found.epoch.removed])),
        )
        for site, answer in answers.items():
            if isinstance(answer, Failure):
                _log.warning(
                    "%s did not take the roster of epoch %d: %s",
                    site,
                    found.epoch.number,
                    answer.code.value,
                )
            if not isinstance(answer, Failure) or site in found.epoch.removed:
                self._told.add(site)

    def _exchange(
        self,
        stage: str,
        sites: list[str],
        body: bytes,
        *,
        quorum: int,
        deadline_s: float = _DEADLINE_S,
    ) -> dict[str, Reply | Failure]:
        return self._engine.exchange(
            stage,
            dict.fromkeys(sites, body),
            deadline_s=deadline_s,
            quorum=quorum,
            grace_s=_GRACE_S,
        )


class WatchedAggregator:
    """``inner``, each of whose rounds begins with a look at the roster."""

    def __init__(self, inner: Aggregator, watch: RosterWatch) -> None:
        self._inner = inner
        self._watch = watch

    def members(self) -> tuple[str, ...]:
        """The members of ``inner``."""
        return self._inner.members()

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """The round's sum, over nobody who is removed by now.

        Raises:     TrainingError where the plan does not go on; what ``inner`` raises.
        """
        self._watch.round_begins(request.round_number)
        return (yield from self._inner.aggregate(request, cohort=cohort))
