"""A round without secure aggregation: the server sees every site's update. For research only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from phoenix_secure.config import FederationConfig
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import Engine, Failure, FailureCode, Reply
from phoenix_secure.federation.round.aggregate import Aggregate, Stages
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.messages import MalformedMessage, TrainReply, TrainRequest
from phoenix_secure.federation.server.optimizer import mean_update

__all__ = ["PlaintextAggregator"]


class PlaintextAggregator:
    """Asks each site for its update and takes the mean."""

    def __init__(
        self,
        engine: Engine,
        *,
        federation: FederationConfig,
        num_uploaded: int | None = None,
        hides_metrics: bool = False,
        epoch: Callable[[], RoundEpoch] | None = None,
    ) -> None:
        """``num_uploaded`` is the size of an answer, where it is not that of the model;
        ``hides_metrics``: sites count alike, and tell no loss and no number of images;
        ``epoch``: the roster in force, whose removed sites are not asked."""
        self._engine = engine
        self._federation = federation
        self._num_uploaded = num_uploaded
        self._hides_metrics = hides_metrics
        self._epoch = epoch

    def members(self) -> tuple[str, ...]:
        """The sites that can be reached now."""
        return self._engine.sites

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """One stage, and the mean over the sites in the order of their names.

        Raises:     TrainingError when fewer than ``federation.min_sites`` sites answer.
        """
        yield from ()  # its one stage is the round, which the round's own report tells of
        round_number = request.round_number
        body = request.to_bytes()
        num_parameters = self._num_uploaded or request.parameters.size
        limit = TrainReply.max_bytes(num_parameters)
        removed = {} if self._epoch is None else self._epoch().removed
        cohort = tuple(site for site in cohort if site not in removed)
        answers = self._ask(cohort, body, max_reply_bytes=limit)
        refused = [site for site, answer in answers.items() if _is_refusal(answer)]
        asked = len(cohort)
        if refused and len(cohort) - len(refused) < self._federation.min_sites:
            # A site that sat the round out by its own evaluation stays when it is asked again.
            answers |= self._ask(tuple(refused), body, max_reply_bytes=limit)
            asked += len(refused)
        replies, failures = _read(answers, round_number, num_parameters=num_parameters)
        if len(replies) < self._federation.min_sites:
            codes = ", ".join(f"{site}: {code}" for site, code in failures.items())
            raise TrainingError(
                f"round {round_number}: {len(replies)} of {len(cohort)} sites answered, fewer than "
                f"federation.min_sites = {self._federation.min_sites} ({codes}){_advice(failures)}"
            )
        hidden = self._hides_metrics
        weights = [1.0 if hidden else float(reply.num_images) for reply in replies.values()]
        losses = [reply.loss for reply in replies.values()]
        return Aggregate(
            update=mean_update([reply.delta for reply in replies.values()], weights),
            loss=None if hidden else float(np.average(losses, weights=weights)),
            sites=tuple(replies),
            failures=failures,
            num_images=None if hidden else int(sum(weights)),
            num_steps=sum(reply.num_steps for reply in replies.values()),
            bytes_down=len(body) * asked,
            bytes_up=sum(len(a.body) for a in answers.values() if isinstance(a, Reply)),
        )

    def _ask(
        self, sites: tuple[str, ...], body: bytes, *, max_reply_bytes: int
    ) -> dict[str, Reply | Failure]:
        return self._engine.exchange(
            "train",
            dict.fromkeys(sites, body),
            deadline_s=self._federation.deadline_s,
            max_reply_bytes=max_reply_bytes,
        )


def _is_refusal(answer: Reply | Failure) -> bool:
    return isinstance(answer, Failure) and answer.code is FailureCode.REFUSED


def _read(
    answers: dict[str, Reply | Failure], round_number: int, *, num_parameters: int
) -> tuple[dict[str, TrainReply], dict[str, str]]:
    """Split the answers into usable replies and codes, in the fixed order of site names."""
    replies: dict[str, TrainReply] = {}
    failures: dict[str, str] = {}
    for site in sorted(answers):
        answer = answers[site]
        if isinstance(answer, Failure):
            failures[site] = answer.code.value
            continue
        try:
            replies[site] = TrainReply.from_bytes(
                answer.body, round_number=round_number, num_parameters=num_parameters
            )
        except MalformedMessage:
            failures[site] = FailureCode.MALFORMED.value
    return replies, failures


def _advice(failures: dict[str, str]) -> str:
    if FailureCode.DIVERGED.value in failures.values():
        return ": lower training.learning_rate or set training.grad_clip"
    return ": see the sites' logs, then resume"
