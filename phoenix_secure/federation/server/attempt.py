"""One attempt at one secure round: the protocol's stages over an engine, each timed and counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.engines.exchange import Engine, Failure, FailureCode, Reply
from phoenix_secure.federation.round.messages import SecureTrainRequest
from protocol import RemoteProtocolError, ServerSession, ServerStep, SessionAborted
from protocol.events import RoundCompleted

__all__ = ["STAGES", "Patience", "StageReport", "patience_between_machines", "run_attempt"]

# R0 with the training, then R1 to R4 of the protocol; R5 tells the sites the result.
STAGES = ("announce", "share", "mask", "check", "unmask", "result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the server waits, in seconds; ``grace`` counts from the quorum's last answer."""

    training_deadline_s: float
    training_grace_s: float
    stage_deadline_s: float
    grace_s: float
    retry_pause_s: float = 0.0


def patience_between_machines(config: RunConfig) -> Patience:
    """How long to wait where sites can vanish without a word."""
    settings = config.secure_aggregation
    return Patience(
        training_deadline_s=config.federation.deadline_s,
        training_grace_s=settings.training_grace_s,
        stage_deadline_s=settings.stage_deadline_s,
        grace_s=settings.grace_s,
        retry_pause_s=settings.retry_pause_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What one stage of one attempt brought; nothing in it depends on a site's images."""

    training_round: int
    attempt: int  # 1 for the first try at the training round
    stage: str
    asked: tuple[str, ...]
    answered: tuple[str, ...]
    failures: dict[str, str]  # site -> code, or what its signed answer broke
    bytes_down: int
    bytes_up: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class StageTaker:
    """Runs single stages and keeps their reports."""

    def __init__(
        self,
        engine: Engine,
        *,
        patience: Patience,
        training_round: int,
        attempt: int,
        observe: Callable[[StageReport], object],
    ) -> None:
        self._engine = engine
        self._patience = patience
        self._training_round = training_round
        self._attempt = attempt
        self._observe = observe
        self.reports: list[StageReport] = []

    def take(
        self,
        stage: str,
        requests: dict[str, bytes],
        *,
        quorum: int,
        receive: Callable[[str, bytes], object],
        close: Callable[[], ServerStep] | None,
    ) -> ServerStep:
        """Send, hand every answer to ``receive``, and ``close``; the report includes all of it.

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
        waits = self._patience
        answers = self._engine.exchange(
            stage,
            requests,
            deadline_s=waits.training_deadline_s if is_training else waits.stage_deadline_s,
            quorum=quorum,
            grace_s=waits.training_grace_s if is_training else waits.grace_s,
            on_reply=take_in,
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
        self._observe(report)
        if aborted is not None:
            raise aborted
        return step


def run_attempt(
    session: ServerSession,
    stages: StageTaker,
    *,
    model: bytes,
    asked: tuple[str, ...],
    before_signing: Callable[[tuple[str, ...]], object],
    before_result: Callable[[RoundCompleted], object],
) -> RoundCompleted:
    """Drive ``session`` from the announcement to the result.

    asked            sites of the cohort that the announcement goes to
    before_signing   called with the survivors before they are asked to sign
    before_result    called with the sum before the sites hear of it

    Raises:     SessionAborted when the attempt failed.
    """
    quorum = session.spec.quorum
    announcement = session.start().outbound[session.spec.cohort[0]]
    body = SecureTrainRequest(announcement=announcement, model=model).to_bytes()
    requests = dict.fromkeys(asked, body)
    for stage in STAGES[:-1]:
        step = stages.take(
            stage, requests, quorum=quorum, receive=session.receive, close=session.close_stage
        )
        requests = step.outbound
        if stage == "mask":
            before_signing(tuple(sorted(requests)))
    completed = next(event for event in step.events if isinstance(event, RoundCompleted))
    before_result(completed)
    # Best effort: a site that misses the result only knows less of the transcript.
    stages.take("result", requests, quorum=quorum, receive=lambda site, reply: None, close=None)
    return completed
