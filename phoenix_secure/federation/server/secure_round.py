"""A secure round: attempts at the sum of one training round until one succeeds.

- Before anybody is asked to sign a survivor set, a failed attempt is followed by another one of
  the same protocol round, with a new context.
- Afterwards the protocol round is spent. The training round is then summed again under a new
  number, over exactly the sites that were to sign: it is the one set for which they may sign the
  same update twice (``site.secure_record``).
- A site that broke the protocol under its own signature is never asked again, and all sites get the
  proof. An attempt that convicts somebody does not count against ``max_attempts``: there are only
  so many liars.
- A sum that no honest sites enter is refused and its round given up; the next ones set the inputs
  of a few sites aside, unread, until they go on without who spoils them (``suspects``).
- Who is removed from the roster stays in the cohort, as who is excluded does, and is not asked. Its
  round is bound to the roster in force when it began.
- Otherwise the run stops with its last checkpoint, and ``resume`` goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import Engine, FailureCode
from phoenix_secure.federation.round.aggregate import Aggregate, Stages
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.exclusions import Exclusion, ExclusionNotice
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import SecureRoundRecord, StageReport
from phoenix_secure.federation.round.stages import EXCLUSION_STAGE
from phoenix_secure.federation.secagg.payload import (
    TooFewTrained,
    decode_sum,
    unclipped_fraction,
)
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.server.attempt import StageRunner, Timeouts, run_attempt
from phoenix_secure.federation.server.broadcast import Broadcast, SentModel
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.missing_sites import (
    dropouts_of,
    failures_of,
    listed,
    require_enough,
)
from phoenix_secure.federation.server.model_chain import ComputedModel, ModelChain
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.sums import KeptSum
from phoenix_secure.federation.server.suspects import SuspectSearch, WrongSum
from protocol import RoundSpec, ServerSession, SessionAborted
from protocol.events import RoundCompleted

__all__ = ["SecureAggregator"]

_NOTICE_DEADLINE_S = 60.0
_NOTICE_GRACE_S = 5.0


class SecureAggregator:
    """The server's side of all secure rounds of a run.

    on_excluded   told of each exclusion once the journal has it, and before the sites are; again
                  after a restart
    """

    def __init__(
        self,
        engine: Engine,
        *,
        party: ServerParty,
        terms: SecureTerms,
        journal: SecureJournal,
        timeouts: Timeouts,
        max_attempts: int,
        num_threads: int = 1,
        on_excluded: Callable[[Exclusion], object] = lambda exclusion: None,
        chain: ModelChain | None = None,
        broadcast: Callable[[TrainRequest], Broadcast] = SentModel,
        epoch: Callable[[], RoundEpoch] | None = None,
    ) -> None:
        """``chain`` is the model as all sites compute it; None where ``broadcast`` says what they
        get, a model by default. ``epoch`` is the roster in force when a round begins; None where
        it does not change."""
        self._engine = engine
        self._identity = party.identity
        self._epoch_now = epoch or (lambda: RoundEpoch.fixed(party.round_roster))
        self._epoch = self._epoch_now()
        self._terms = terms
        self._journal = journal
        self._timeouts = timeouts
        self._max_attempts = max_attempts
        self._num_threads = num_threads
        self._on_excluded = on_excluded
        self._told: set[str] = set()
        self._chain = chain
        self._other_broadcast = broadcast
        self._search = SuspectSearch(self.members(), terms=terms)

    def members(self) -> tuple[str, ...]:
        """The whole roster, reachable or not: a cohort must not depend on who is away."""
        return tuple(id for id, _ in self._epoch.roster.members)

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """Sum the updates of one training round without seeing one.

        Guarantee:  the exact sum of the survivors' integers, or no sum.
        Raises:     TrainingError after ``max_attempts`` attempts, or where fewer sites trained than
                    the threshold; WrongSum for a sum that no honest sites enter.
        """
        self._tell_exclusions()
        round_number = request.round_number
        kept = None if self._chain is None else self._chain.kept(round_number)
        if kept is not None:
            # Its sites confirmed the model already; only the checkpoint was lost.
            return self._repeated(kept, request, cohort=cohort)
        self._epoch = self._epoch_now()
        require_enough(
            self._epoch,
            threshold=self._terms.threshold,
            round_number=round_number,
            needed=self._journal.survivors(round_number) or (),
        )
        model = request.parts()
        reports: list[StageReport] = []
        aborts: list[SessionAborted] = []
        in_vain = 0
        spec: RoundSpec | None = None
        while in_vain < self._max_attempts:
            if aborts:
                time.sleep(self._timeouts.retry_pause_s)
            if spec is None:
                spec = self._terms.spec(
                    roster=self._epoch.roster,
                    cohort=cohort,
                    protocol_round=self._journal.reserve(round_number),
                    model=model,
                    previous=self._journal.previous,
                )
            stages = StageRunner(
                self._engine,
                timeouts=self._timeouts,
                training_round=round_number,
                attempt=len(aborts) + 1,
            )
            num_excluded = len(self._journal.excluded)
            try:
                broadcast = self._broadcast(request, spec)
                completed = yield from self._attempt(
                    spec, stages, round_number=round_number, broadcast=broadcast
                )
            except SessionAborted as error:
                self._tell_exclusions()
                aborts.append(error)
                in_vain += len(self._journal.excluded) == num_excluded
                spec = spec.next_attempt() if error.retry_allowed else None
                continue
            finally:
                reports += stages.reports
            self._tell_exclusions()
            found = self._aggregate(
                completed,
                reports,
                request=request,
                protocol_round=spec.round,
                cohort=cohort,
                aborts=aborts,
            )
            if broadcast.missing():
                raise TrainingError(
                    f"round {round_number}: {broadcast.missing()} more sites must confirm the new "
                    f"model ({listed(reports[-1].failures)}): start them, then resume"
                )
            self._search.right(round_number, survivors=found.sites)
            state = broadcast.finish(
                completed, bytes_down=found.bytes_down, bytes_up=found.bytes_up
            )
            return replace(found, state=state)
        raise TrainingError(self._why(round_number, reports, aborts))

    def _broadcast(self, request: TrainRequest, spec: RoundSpec) -> Broadcast:
        if self._chain is None:
            return self._other_broadcast(request)
        number = request.round_number
        return ComputedModel(self._chain, round_number=number, protocol_round=spec.round)

    def _repeated(
        self, kept: KeptSum, request: TrainRequest, *, cohort: tuple[str, ...]
    ) -> Aggregate:
        """The outcome of a round that was done before this server was started again."""
        if self._chain is None:
            raise AssertionError("kept sums belong to a chain")
        found = self._aggregate(
            kept.completed(self._terms),
            [],
            request=request,
            protocol_round=kept.protocol_round,
            cohort=cohort,
            aborts=[],
        )
        # What it took is counted once, by whoever writes the round down.
        return replace(
            found,
            state=self._chain.repeat(kept),
            bytes_down=kept.bytes_down,
            bytes_up=kept.bytes_up,
        )

    def _attempt(
        self, spec: RoundSpec, stages: StageRunner, *, round_number: int, broadcast: Broadcast
    ) -> Stages[RoundCompleted]:
        session = ServerSession(
            self._identity, roster=self._epoch.roster, spec=spec, num_threads=self._num_threads
        )
        # Who is excluded stays in the cohort and is absent: no attempt has a smaller one. A set
        # that was to be signed before is asked whole: nothing else can be signed for this round.
        before = self._journal.survivors(round_number)
        try:
            return (
                yield from run_attempt(
                    session,
                    stages,
                    broadcast=broadcast,
                    asked=before or self._askable(spec.cohort),
                    set_aside=self._search.set_aside if before is None else lambda _: frozenset(),
                    before_signing=lambda survivors: self._journal.record_survivors(
                        round_number, survivors=survivors
                    ),
                    before_result=lambda completed: self._journal.record_result(
                        round_number, transcript=completed.transcript_hash
                    ),
                )
            )
        finally:
            for proof in session.proofs:
                self._journal.record_excluded(round_number, proof=proof)
            session.abort()

    def _askable(self, cohort: tuple[str, ...]) -> tuple[str, ...]:
        gone = self._journal.excluded.keys() | self._epoch.removed.keys()
        return tuple(site for site in cohort if site not in gone)

    def _tell_exclusions(self) -> None:
        """Evidence first, then every site that can be reached; who is away hears of it later."""
        new = [each for id, each in self._journal.excluded.items() if id not in self._told]
        if not new:
            return
        for each in new:
            self._on_excluded(each)
        body = ExclusionNotice(exclusions=tuple(self._journal.excluded.values())).to_bytes()
        self._engine.exchange(
            EXCLUSION_STAGE,
            dict.fromkeys(self._engine.sites, body),
            deadline_s=_NOTICE_DEADLINE_S,
            quorum=1,
            grace_s=_NOTICE_GRACE_S,
        )
        self._told.update(each.site for each in new)

    def _aggregate(
        self,
        completed: RoundCompleted,
        reports: list[StageReport],
        *,
        request: TrainRequest,
        protocol_round: int,
        cohort: tuple[str, ...],
        aborts: list[SessionAborted],
    ) -> Aggregate:
        survivors, terms, clip_factor = completed.survivors, self._terms, request.clip_factor
        try:
            update, metrics = decode_sum(
                completed.words, completed.extra, num_sites=len(survivors), terms=terms
            )
            within = unclipped_fraction(completed.words, num_sites=len(survivors), terms=terms)
        except (ValueError, TooFewTrained) as error:
            raise self._given_up(request.round_number, error, survivors=survivors) from error
        except TrainingError as error:
            raise TrainingError(
                f"round {request.round_number}: {error}, and start again; or resume with "
                "--skip-round. Nothing was used"
            ) from error
        update *= clip_factor  # in place: a copy would be the largest thing in memory
        attempt = len(aborts) + 1
        dropouts = dropouts_of(reports, attempt=attempt)
        failures = failures_of(dropouts, cohort=cohort, survivors=survivors)
        failures |= {site: why for site, why in self._search.reasons.items() if site in failures}
        removed = self._epoch.removed
        failures |= {site: removed[site] for site in failures if site in removed}
        excluded = self._journal.excluded
        failures |= {
            site: f"excluded: {excluded[site].reason}" for site in failures if site in excluded
        }
        return Aggregate(
            update=update,
            unclipped_fraction=within,
            num_failed=metrics.num_failed,
            loss=None if terms.hides_metrics else metrics.loss,
            sites=survivors,
            failures=failures,
            num_images=None if terms.hides_metrics else metrics.num_images,
            num_steps=metrics.num_steps,
            bytes_down=sum(report.bytes_down for report in reports),
            bytes_up=sum(report.bytes_up for report in reports),
            secure=SecureRoundRecord(
                terms=replace(terms.record, clip_norm=terms.clip_norm * clip_factor),
                protocol_round=protocol_round,
                attempts=attempt,
                failed_attempts=tuple(error.reason.value for error in aborts),
                survivors=len(survivors),
                dropouts=dropouts,
                unclipped_fraction=within,
                clipped=None if terms.hides_metrics else metrics.num_clipped,
                failed=None if terms.noise is not None else metrics.num_failed,
                transcript=completed.transcript_hash.hex(),
                stages=tuple(reports),
                excluded=tuple(each.summary for each in excluded.values()),
            ),
        )

    def _given_up(
        self, round_number: int, error: Exception, *, survivors: tuple[str, ...]
    ) -> WrongSum:
        """The error of a sum that cannot be used; its round is given up where that helps."""
        wrong = self._search.wrong(
            round_number,
            # Who failed is nobody's business but its own.
            f"{error}; or one site only says so"
            if isinstance(error, TooFewTrained)
            else f"no honest sites enter such a sum: {error}: one of {', '.join(survivors)} does "
            "not run the agreed software; the sum does not say which",
            survivors=survivors,
        )
        wrong.has_model = round_number - 1 > len(self._journal.given_up)
        if wrong.search_goes_on:
            self._journal.record_given_up(round_number)
        return wrong

    def _why(
        self, round_number: int, reports: list[StageReport], aborts: list[SessionAborted]
    ) -> str:
        """One line: what failed, who was missing, what to do."""
        last = reports[-1]
        missing = listed(last.failures)
        text = (
            f"round {round_number}: no secure sum after {len(aborts)} attempts "
            f"({aborts[-1].reason.value} in stage {last.stage}"
            f"{'; ' + missing if missing else ''})"
        )
        excluded = "; ".join(
            f"{each.site}: {each.reason}" for each in self._journal.excluded.values()
        )
        if excluded:
            text += f"; proven by their own signed messages, and excluded: {excluded}"
        if (
            self._chain is not None
            and _is_another_model(last)
            and not self._chain.base.round_number
        ):
            return (
                f"{text}: the sites start from another model than this server: use the same "
                "version and kind of processor, without sharing.warmup_steps; or let owners accept "
                "models from the server, secure_aggregation.broadcast=model"
            )
        needed = self._journal.survivors(round_number)
        if needed is not None:
            return (
                f"{text}: sites may have signed this round, so it can only be summed over the same "
                f"ones again: start {', '.join(needed)}, then resume; if one of them is gone for "
                "good, resume with --skip-round"
            )
        return f"{text}: at least {self._terms.threshold} sites must stay; start them, then resume"


def _is_another_model(report: StageReport) -> bool:
    return FailureCode.ANOTHER_MODEL.value in report.failures.values()
