"""Applies a site's strategies around its training: complete, change, keep, evaluate, answer with
less."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.diffusion.ema import ema_decay, update_ema
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.heterogeneity.control_variates import Moved, drift, moved
from phoenix_secure.federation.heterogeneity.exchange import Exchange
from phoenix_secure.federation.heterogeneity.filtering import (
    Judgement,
    SelfEvaluator,
    judge_failures,
)
from phoenix_secure.federation.heterogeneity.memory import Memory, Remembered
from phoenix_secure.federation.heterogeneity.own_strategy import own_strategy
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.training.local import LocalUpdate

__all__ = ["SiteStrategies"]

Train = Callable[[np.ndarray, int, np.ndarray | None], LocalUpdate]
"""``(parameters, round_number, drift)`` -> the update."""


class SiteStrategies:
    """The strategies of one site.

    config        the run's settings
    exchange      what travels
    memory        what the site keeps
    start         the personal parameters before the first round (p,)
    num_images    images that count as the site's weight: its own, not the shared ones
    judge         None: the site never sits out

    Into a secure sum a site always answers: sitting out must not show.

    Raises:     ConfigError for a strategy of the user's own that is not installed.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        exchange: Exchange,
        memory: Memory | None,
        start: Callable[[], np.ndarray],
        num_images: int,
        judge: SelfEvaluator | None = None,
    ) -> None:
        self._exchange = exchange
        self._memory = memory
        self._start = start
        self._num_images = num_images
        self._filtering = config.filtering
        self._ema = config.ema
        self._judge = judge
        self._is_summed = config.secure_aggregation.mode == "on"
        self._reshape = own_strategy(config.exchange.strategy)
        self._config = config
        self._last: tuple[int, bytes, LocalUpdate] | None = None

    def answer(self, request: TrainRequest, *, train: Train) -> LocalUpdate:
        """The update that leaves the site: ``exchange.num_uploaded`` parameters.

        ``train`` gets the whole vector (d,), the round, and the correction of each step (d,).

        Raises:     SiteFailure REFUSED when the site sits the round out; asked again for the same
                    round it answers, so that no round fails for it. Not into a secure sum: there
                    every site trains and answers in every round, and the update says ``sat_out``.
        """
        round_number = request.round_number
        memory = self._memory
        if memory is None:
            update, _ = self._trained(request, train, before=None)
        else:
            asked_again = memory.of(round_number)
            before = memory.before(round_number)
            must_stay = self._is_summed or (asked_again is not None and asked_again.refused)
            if self._still_refuses(before, round_number) and not must_stay:
                memory.save(replace(before, round_number=round_number, refused=True))
                raise SiteFailure(FailureCode.REFUSED)
            update, whole = self._trained(request, train, before=before)
            judgement = self._judged(whole, round_number, before)
            kept = self._remembered(round_number, whole, update, before, judgement)
            memory.save(replace(kept, moved=self._moved(request, update, before)))
            if judgement.refuses and not must_stay:
                raise SiteFailure(FailureCode.REFUSED)
            if self._is_summed:
                sits_out = judgement.refuses or self._still_refuses(before, round_number)
                update = replace(update, sat_out=sits_out)
        self._last = None
        return replace(
            update,
            delta=self._exchange.to_server(update.delta, round_number=round_number),
            num_images=self._num_images,
        )

    def _still_refuses(self, before: Remembered | None, round_number: int) -> TypeGuard[Remembered]:
        """Between two evaluations the last one holds, and nothing is trained in vain."""
        return (
            before is not None
            and self._judge is not None
            and before.failures >= self._filtering.max_failures
            and not self._filtering.is_due(round_number)
        )

    def _trained(
        self, request: TrainRequest, train: Train, *, before: Remembered | None
    ) -> tuple[LocalUpdate, np.ndarray]:
        """The update of the whole vector, and the vector that it leads to."""
        personal = self._start() if before is None else before.personal
        vector = self._exchange.complete(request.parameters, personal=personal)
        # A site that refused is asked again for the same model: it need not train twice.
        key = request.round_number, hashlib.sha256(vector.data).digest()
        if self._last is None or self._last[:2] != key:
            self._last = None
            trained = train(vector, request.round_number, self._drift(vector, request, before))
            self._last = *key, self._reshape(trained, vector, request.round_number)
        update = self._last[2]
        return update, vector + update.delta

    def _drift(
        self, vector: np.ndarray, request: TrainRequest, before: Remembered | None
    ) -> np.ndarray | None:
        if not self._config.training.control_variates or before is None:
            return None
        since, now = before.round_number, request.round_number
        return drift(before.moved, vector, config=self._config, since=since, now=now)

    def _moved(
        self, request: TrainRequest, update: LocalUpdate, before: Remembered | None
    ) -> Moved | None:
        if not self._config.training.control_variates:
            return None
        vector, number = request.parameters, request.round_number
        if update.failed:
            last = None if before is None else before.moved
            return None if last is None else replace(last, start=vector.copy())
        correction = self._drift(vector, request, before)
        return moved(vector, update.delta, correction, config=self._config, round_number=number)

    def _judged(self, whole: np.ndarray, round_number: int, before: Remembered | None) -> Judgement:
        failures = 0 if before is None else before.failures
        if self._judge is None or not self._filtering.is_due(round_number):
            return Judgement(failures=failures, refuses=False)
        score = self._judge.score(whole, round_number=round_number)
        return judge_failures(score, failures=failures, settings=self._filtering)

    def _remembered(
        self,
        round_number: int,
        whole: np.ndarray,
        update: LocalUpdate,
        before: Remembered | None,
        judgement: Judgement,
    ) -> Remembered:
        personal = whole[self._exchange.personal]
        num_updates = 0 if before is None else before.num_updates
        decay = ema_decay(self._ema, num_updates=num_updates, steps_per_round=update.num_steps)
        average = self._start() if before is None else before.personal_ema
        return Remembered(
            round_number=round_number,
            personal=personal,
            personal_ema=update_ema(average, personal, decay=decay),
            num_updates=num_updates + 1,
            failures=judgement.failures,
            refused=judgement.refuses,
        )
