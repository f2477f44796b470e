"""The server's loop: sample a cohort, ask it to train, move the model, average it, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.diffusion.ema import ema_decay, update_ema
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.round.aggregate import Aggregate, Aggregator
from phoenix_secure.federation.round.cohort import cohort_of_round
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import RoundReport, StageReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.adaptive_clip import next_clip_factor
from phoenix_secure.federation.server.optimizer import server_step
from phoenix_secure.rng import SeedTree

__all__ = ["FinishedRound", "run_rounds"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRound:
    """The state after a round, and the round's report."""

    state: ServerState
    report: RoundReport


def run_rounds(
    state: ServerState, *, config: RunConfig, aggregator: Aggregator, seeds: SeedTree
) -> Iterator[StageReport | FinishedRound]:
    """Run the rounds after ``state`` up to ``federation.rounds``, yielding stages and rounds.

    Guarantee:  the states are a function of the first one, the settings and the sites' images.
    Raises:     TrainingError when too few sites answer.
    """
    for round_number in range(state.round_number + 1, config.federation.rounds + 1):
        cohort = cohort_of_round(aggregator.members(), round_number, config=config, seeds=seeds)
        request = TrainRequest(
            round_number=round_number,
            parameters=state.parameters,
            clip_factor=state.clip_factor,
        )
        started = time.perf_counter()
        found = yield from aggregator.aggregate(request, cohort=cohort)
        steps = found.num_steps / (len(found.sites) - found.num_failed)
        state = _advance(state, found, config=config, steps=steps)
        seconds = time.perf_counter() - started
        report = RoundReport(
            round_number=round_number,
            loss=found.loss,
            sites=found.sites,
            failures=found.failures,
            num_images=found.num_images,
            images_per_s=found.num_steps * config.training.batch_size / seconds,
            seconds=seconds,
            bytes_down=found.bytes_down,
            bytes_up=found.bytes_up,
            update_norm=float(np.linalg.norm(found.update)),
            secure=found.secure,
        )
        yield FinishedRound(state=state, report=report)


def _advance(
    state: ServerState, found: Aggregate, *, config: RunConfig, steps: float
) -> ServerState:
    """The server's step, then the moving average and the next clip norm."""
    parameters, momentum, second_moment = server_step(
        config.federation,
        found.update,
        parameters=state.parameters,
        momentum=state.momentum,
        second_moment=state.second_moment,
    )
    if not np.isfinite(parameters).all():
        raise TrainingError(
            f"round {state.round_number + 1}: the global model became infinite: "
            "lower federation.server_learning_rate"
        )
    decay = ema_decay(config.ema, num_updates=state.round_number, steps_per_round=steps)
    return ServerState(
        round_number=state.round_number + 1,
        parameters=parameters,
        ema=update_ema(state.ema, parameters, decay=decay),
        momentum=momentum,
        second_moment=second_moment,
        clip_factor=next_clip_factor(
            state.clip_factor, unclipped_fraction=found.unclipped_fraction, privacy=config.privacy
        ),
    )
