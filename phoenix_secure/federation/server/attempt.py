"""One attempt at one secure round: the protocol's stages over an engine, each timed and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.engines.exchange import Engine, Failure, FailureCode, Reply
from phoenix_secure.federation.round.aggregate import Stages
from phoenix_secure.federation.round.report import StageReport
from phoenix_secure.federation.server.broadcast import Broadcast
from protocol import RemoteProtocolError, ServerSession, ServerStep, SessionAborted
from protocol.events import RoundCompleted

__all__ = [
    "STAGES",
    "StageRunner",
    "Timeouts",
    "deployment_timeouts",
    "run_attempt",
    "simulation_timeouts",
]

# Times that sites are asked to confirm a model, as long as too few have.
_RESULT_TRIES = 3
# R0 with the training, then R1 to R4 of the protocol; R5 tells the sites the result.
STAGES = ("announce", "share", "mask", "check", "unmask", "result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """The server's waiting times in seconds; ``grace`` counts from the quorum's last answer."""

    training_deadline_s: float
    training_grace_s: float
    stage_deadline_s: float
    grace_s: float
    retry_pause_s: float = 0.0


def deployment_timeouts(config: RunConfig) -> Timeouts:
    """The waiting times of a deployment, where sites can vanish without notice."""
    settings = config.secure_aggregation
    return Timeouts(
        training_deadline_s=config.federation.deadline_s,
        training_grace_s=settings.training_grace_s,
        stage_deadline_s=settings.stage_deadline_s,
        grace_s=settings.grace_s,
        retry_pause_s=settings.retry_pause_s,
    )


def simulation_timeouts(config: RunConfig) -> Timeouts:
    """Wait for every site: a thread cannot vanish without a word.

    Who is in a sum then does not depend on how busy this machine is.
    """
    deadline_s = config.federation.deadline_s
    return Timeouts(
        training_deadline_s=deadline_s,
        training_grace_s=deadline_s,
        stage_deadline_s=deadline_s,
        grace_s=deadline_s,
    )


class StageRunner:
    """Runs single stages and keeps their reports."""

    def __init__(
        self,
        engine: Engine,
        *,
        timeouts: Timeouts,
        training_round: int,
        attempt: int,
    ) -> None:
        self._engine = engine
        self._timeouts = timeouts
        self._training_round = training_round
        self._attempt = attempt
        self.reports: list[StageReport] = []

    def run(
        self,
        stage: str,
        requests: dict[str, bytes],
        *,
        quorum: int,
        receive: Callable[[str, bytes], object],
        close: Callable[[], ServerStep] | None,
        max_reply_bytes: int | None = None,
    ) -> Stages[ServerStep]:
        """Send, hand every answer to ``receive``, and ``close``; the report covers all of it.

        ``max_reply_bytes`` bounds each answer; None is the engine's limit for small ones.

        Raises:     SessionAborted when too few answered; the stage is reported all the same.
        """
        failures: dict[str, str] = {}
        bytes_up = 0
        aborted: SessionAborted | None = None

        def take_in(site: str, reply: Reply) -> Failure | None:
            """A masked vector is summed as it comes and freed: the server never holds all."""
            nonlocal bytes_up, aborted
            bytes_up += len(reply.body)
            if aborted is not None:
                return None
            try:
                receive(site, reply.body)
            except RemoteProtocolError as error:
                failures[site] = error.reason.value
                return Failure(code=FailureCode.MALFORMED)
            except SessionAborted as error:
                aborted = error
            return None

        started = time.perf_counter()
        is_training = stage == "announce"
        waits = self._timeouts
        answers = self._engine.exchange(
            stage,
            requests,
            deadline_s=waits.training_deadline_s if is_training else waits.stage_deadline_s,
            quorum=quorum,
            grace_s=waits.training_grace_s if is_training else waits.grace_s,
            on_reply=take_in,
            max_reply_bytes=max_reply_bytes,
        )
        for site, answer in answers.items():
            if isinstance(answer, Failure):
                failures.setdefault(site, answer.code.value)
        failures = dict(sorted(failures.items()))
        step = ServerStep({}, ())
        if aborted is None and close is not None:
            try:
                step = close()
            except SessionAborted as error:
                aborted = error
        report = StageReport(
            training_round=self._training_round,
            attempt=self._attempt,
            stage=stage,
            asked=tuple(sorted(requests)),
            answered=tuple(site for site in sorted(requests) if site not in failures),
            failures=failures,
            bytes_down=sum(len(body) for body in requests.values()),
            bytes_up=bytes_up,
            seconds=time.perf_counter() - started,
        )
        self.reports.append(report)
        yield report
        if aborted is not None:
            raise aborted
        return step


def run_attempt(
    session: ServerSession,
    stages: StageRunner,
    *,
    broadcast: Broadcast,
    asked: tuple[str, ...],
    set_aside: Callable[[tuple[str, ...]], frozenset[str]],
    before_signing: Callable[[tuple[str, ...]], object],
    before_result: Callable[[RoundCompleted], object],
) -> Stages[RoundCompleted]:
    """Drive ``session`` from the announcement to the result.

    broadcast        what the sites get to train from, and what they hear of the sum
    asked            sites of the cohort that the announcement goes to
    set_aside        called with those that will send inputs: whose to leave unread, as if too late;
                     nobody hears of it before all inputs are in
    before_signing   called with the survivors before they are asked to sign
    before_result    called with the sum before the sites hear of it

    Raises:     SessionAborted when the attempt failed.
    """
    quorum = session.spec.quorum
    announcement = session.start().outbound[session.spec.cohort[0]]
    requests = broadcast.offers(announcement, asked=asked)
    for stage in STAGES[:-1]:
        aside = set_aside(tuple(sorted(requests))) if stage == "mask" else frozenset()

        def receive(site: str, body: bytes, aside: frozenset[str] = aside) -> None:
            if site not in aside:
                session.receive(site, body)

        try:
            step = yield from stages.run(
                stage,
                requests,
                quorum=min(quorum + len(aside), len(requests)),
                receive=receive,
                close=session.close_stage,
                max_reply_bytes=session.reply_limit,
            )
        finally:
            if stage == "announce" and stages.reports:
                report = stages.reports[-1]
                for site in report.asked:
                    broadcast.heard(site, report.failures.get(site))
        requests = step.outbound
        if stage == "mask":
            before_signing(tuple(sorted(requests)))
    completed = next(event for event in step.events if isinstance(event, RoundCompleted))
    before_result(completed)
    # Best effort: a site that misses the result knows less of the transcript, and catches up with
    # the model later.
    requests = broadcast.results(completed, requests)
    for _ in range(_RESULT_TRIES if requests else 0):
        yield from stages.run(
            "result", requests, quorum=quorum, receive=broadcast.confirmed, close=None
        )
        if not broadcast.missing():
            break
        answered = stages.reports[-1].answered
        requests = {site: body for site, body in requests.items() if site not in answered}
    return completed
