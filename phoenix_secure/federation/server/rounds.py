"""The server's loop: sample a cohort, ask it to train, move the model, average it, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.round.cohort import cohort_of_round
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import RoundReport, StageReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.round.step import next_state
from phoenix_secure.federation.secagg.adaptive_clip import next_clip_factor
from phoenix_secure.federation.server.suspects import WrongSum
from phoenix_secure.rng import SeedTree

__all__ = ["FinishedRound", "GivenUpRound", "run_rounds"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRound:
    """The state after a round, and the round's report."""

    state: ServerState
    report: RoundReport


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenUpRound:
    """The state after a round whose sum was refused: the one before, but for its number."""

    state: ServerState


def run_rounds(
    state: ServerState, *, config: RunConfig, aggregator: Aggregator, seeds: SeedTree
) -> Iterator[StageReport | FinishedRound | GivenUpRound]:
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
        try:
            found = yield from aggregator.aggregate(request, cohort=cohort)
        except WrongSum as wrong:
            is_last = round_number == config.federation.rounds
            if not wrong.search_goes_on or (is_last and not wrong.has_model):
                raise
            _log.warning(
                "%s; %s",
                wrong.what,
                "the run ends with the model of the round before"
                if is_last
                else "the next rounds set some inputs aside to go on without it",
            )
            state = replace(state, round_number=round_number)
            yield GivenUpRound(state=state)
            continue
        # Where the sites recompute the model, the one that they confirmed is the next state.
        state = found.state or next_state(
            state,
            found.update,
            config=config,
            steps_per_site=found.num_steps / (len(found.sites) - found.num_failed),
            clip_factor=next_clip_factor(
                state.clip_factor,
                unclipped_fraction=found.unclipped_fraction,
                privacy=config.privacy,
            ),
        )
        seconds = time.perf_counter() - started
        report = RoundReport(
            round_number=round_number,
            loss=found.loss,
            sites=found.sites,
            failures=found.failures,
            num_images=found.num_images,
            images_per_s=found.num_steps * config.images_per_step / seconds,
            seconds=seconds,
            bytes_down=found.bytes_down,
            bytes_up=found.bytes_up,
            update_norm=float(np.linalg.norm(found.update)),
            secure=found.secure,
        )
        yield FinishedRound(state=state, report=report)
