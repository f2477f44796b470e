"""The server's side of a pooled audit: two secure sums over the final model, and nothing else.

It learns how many sites have images enough, and then the histograms of all of them together. The
first sum is kept: sites bind the second to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.device import num_cores
from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.federation.engines.exchange import Engine, Failure, OnReply, Reply
from phoenix_secure.federation.round.aggregate import Aggregate, Stages
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.stages import AUDIT_PREFIX
from phoenix_secure.federation.secagg.offers import BroadcastSum, RoundOffer
from phoenix_secure.federation.secagg.pooled_layout import PooledCounts, PooledLayout
from phoenix_secure.federation.secagg.pooled_terms import (
    ABLE,
    COUNTS,
    classes_asked,
    examined_request,
    fewest_entered,
    pooled_roster,
    pooled_terms,
    summed_counts,
)
from phoenix_secure.federation.secagg.sum_step import SummedRound
from phoenix_secure.federation.server.attempt import STAGES, Timeouts
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.model_chain import ModelChain
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.secure_round import SecureAggregator
from phoenix_secure.files import write_bytes
from protocol import RemoteProtocolError
from protocol.events import RoundCompleted

__all__ = ["PooledSum", "PooledSums"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PooledSum:
    """What all sites together entered, and who is in it.

    classes      whose counts were asked for
    failures     site -> why it is not in the sum
    transcript   of the protocol's round, in hexadecimal
    """

    counts: PooledCounts
    classes: frozenset[int]
    sites: tuple[str, ...]
    failures: Mapping[str, str]
    transcript: str


class PooledSums:
    """Both sums of one run.

    engine      reaches the sites of the plan
    party       with the plan's ``round_roster``
    chain       the model of the training rounds, at its end
    folder      of the server's own files
    epoch       the roster in force
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        engine: Engine,
        party: ServerParty,
        chain: ModelChain,
        folder: Path,
        timeouts: Timeouts,
        epoch: Callable[[], RoundEpoch],
    ) -> None:
        self._layout = PooledLayout.of(config)
        self._terms = pooled_terms(config)
        self._chain = chain
        self._first_file = folder / "audit-first.bin"
        journal = folder / "audit-rounds.jsonl"
        self._summed: SummedRound | None = None

        def audit_epoch() -> RoundEpoch:
            found = epoch()
            return dataclasses.replace(found, roster=pooled_roster(found.roster))

        self._aggregator = SecureAggregator(
            _AuditStages(engine),
            party=dataclasses.replace(party, round_roster=pooled_roster(party.round_roster)),
            terms=self._terms,
            journal=(SecureJournal if journal.exists() else SecureJournal.create)(journal),
            timeouts=timeouts,
            max_attempts=config.secure_aggregation.max_attempts,
            num_threads=num_cores(),
            broadcast=lambda request: _Broadcast(self, request),
            epoch=audit_epoch,
        )

    def run(self) -> Stages[PooledSum]:
        """Ask who has images enough, then for the counts.

        Guarantee:  no count is asked for unless every site of the first sum has images enough.
        Raises:     TrainingError where too few sites answer or have images enough, or the sum is
                    one that honest sites do not enter.
        """
        first = self._kept_first()
        if first is None:
            yield from self._sum(ABLE, first=b"")
            first = self._summed
            if first is None:
                raise AssertionError("a sum was broadcast")
            write_bytes(self._first_file, first.to_bytes(), mode=0o600)
        able = summed_counts(first, terms=self._terms, layout=self._layout)
        classes = classes_asked(able, num_sites=first.num_sites)
        if classes is None:
            raise TrainingError(
                f"every site must have audit.min_images = {self._layout.min_images} members and "
                f"held-out images, and {first.num_sites - able.entered} of {first.num_sites} have "
                "fewer: raise data.held_out, or lower audit.min_images, in the next plan"
            )
        found = yield from self._sum(COUNTS, first=first.digest)
        counts = found.counts
        try:
            self._layout.check(counts, num_sites=len(found.sites), are_asked=bool(classes))
        except ValueError as error:
            raise TrainingError(
                f"no honest sites enter such counts: {error}; nothing of them is used"
            ) from error
        if counts.entered < fewest_entered(self._terms):
            raise TrainingError(
                "too few sites entered counts: the examination of the others failed, and their own "
                "logs say why; nothing is used"
            )
        return dataclasses.replace(found, classes=classes)

    def _sum(self, number: int, *, first: bytes) -> Stages[PooledSum]:
        request = examined_request(self._chain.base.digest, first=first, number=number)
        stages = self._aggregator.aggregate(request, cohort=self._aggregator.members())
        found = yield from _named(stages)
        if self._summed is None or found.secure is None:
            raise AssertionError("a sum was broadcast")
        return PooledSum(
            counts=summed_counts(self._summed, terms=self._terms, layout=self._layout),
            classes=frozenset(),
            sites=found.sites,
            failures=found.failures,
            transcript=found.secure.transcript,
        )

    def _kept_first(self) -> SummedRound | None:
        if not self._first_file.exists():
            return None
        try:
            return SummedRound.from_bytes(
                self._first_file.read_bytes(),
                peer="this server",
                packed_size=self._terms.masked_bytes,
            )
        except (OSError, RemoteProtocolError) as error:
            raise CheckpointError(
                f"{self._first_file} is damaged: restore it from a copy; without it there is no "
                "pooled audit of this run"
            ) from error

    def offers(
        self, announcement: bytes, *, number: int, asked: tuple[str, ...]
    ) -> dict[str, bytes]:
        """For each site the offer of a sum, and what it needs to catch up with the final model."""
        return {
            site: RoundOffer(
                announcement=announcement,
                round_number=number,
                base=self._chain.base.round_number,
                catch_up=self._chain.catch_up(site),
            ).to_bytes()
            for site in asked
        }

    def results(
        self, completed: RoundCompleted, messages: Mapping[str, bytes], *, number: int
    ) -> dict[str, bytes]:
        """The sum beside each message."""
        summed = SummedRound.of(completed, round_number=number, terms=self._terms)
        self._summed = summed
        return {
            site: BroadcastSum(result=message, summed=summed).to_bytes()
            for site, message in messages.items()
        }


def _named(stages: Stages[Aggregate]) -> Stages[Aggregate]:
    """``stages``, whose reports say that they are of an audit."""
    while True:
        try:
            report = next(stages)
        except StopIteration as end:
            found: Aggregate = end.value
            return found
        yield dataclasses.replace(report, stage=AUDIT_PREFIX + report.stage)


class _Broadcast:
    """One attempt at one of the sums (a ``server.broadcast.Broadcast``): no model follows."""

    def __init__(self, sums: PooledSums, request: TrainRequest) -> None:
        self._sums = sums
        self._number = request.round_number

    def offers(self, announcement: bytes, *, asked: tuple[str, ...]) -> dict[str, bytes]:
        return self._sums.offers(announcement, number=self._number, asked=asked)

    def heard(self, site: str, failure: str | None) -> None:
        pass

    def results(self, completed: RoundCompleted, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        return self._sums.results(completed, messages, number=self._number)

    def confirmed(self, site: str, reply: bytes) -> None:
        pass

    def missing(self) -> int:
        return 0

    def finish(self, completed: RoundCompleted, *, bytes_down: int, bytes_up: int) -> None:
        return None


class _AuditStages:
    """``engine``, whose stages have the names of a pooled audit's (an ``Engine``)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def sites(self) -> tuple[str, ...]:
        return self._engine.sites

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: int | None = None,
        grace_s: float = 0.0,
        on_reply: OnReply | None = None,
        max_reply_bytes: int | None = None,
    ) -> dict[str, Reply | Failure]:
        return self._engine.exchange(
            AUDIT_PREFIX + stage if stage in STAGES else stage,
            requests,
            deadline_s=deadline_s,
            quorum=quorum,
            grace_s=grace_s,
            on_reply=on_reply,
            max_reply_bytes=max_reply_bytes,
        )

    def close(self) -> None:
        self._engine.close()
