"""The server's loop: draw a cohort, ask it to train, move the model, average it, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.diffusion.ema import ema_decay, update_ema
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import Engine, Failure, FailureCode, Reply
from phoenix_secure.federation.messages import MalformedMessage, TrainReply, TrainRequest
from phoenix_secure.federation.server_optimizer import mean_update, server_step
from phoenix_secure.federation.state import ServerState
from phoenix_secure.rng import SeedTree

__all__ = ["RoundReport", "draw_cohort", "run_rounds"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundReport:
    """What one round did; a line of metrics.jsonl."""

    round_number: int
    loss: float  # mean over sites, weighted by images
    sites: tuple[str, ...]  # that answered
    failures: dict[str, str]  # site -> code
    num_images: int  # images that the sites hold, all together
    images_per_s: float  # images trained on, all sites together
    seconds: float
    bytes_down: int
    bytes_up: int
    update_norm: float  # L2 norm of the mean update
    quality: dict[str, Any] | None = None  # when this round was judged

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def draw_cohort(
    sites: tuple[str, ...], *, participation: float, min_sites: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """The sites asked in one round, sorted: a share of all, without replacement."""
    size = min(len(sites), max(min_sites, 1, round(participation * len(sites))))
    if size == len(sites):
        return tuple(sorted(sites))
    chosen = rng.choice(len(sites), size=size, replace=False)
    return tuple(sorted(sites[i] for i in chosen))


def run_rounds(
    state: ServerState, *, config: RunConfig, engine: Engine, seeds: SeedTree
) -> Iterator[tuple[ServerState, RoundReport]]:
    """Run the rounds after ``state`` up to ``federation.rounds``, yielding after each.

    Guarantee:  the states are a function of the first one, the settings and the sites' images.
    Raises:     TrainingError when fewer than ``federation.min_sites`` sites answer.
    """
    for round_number in range(state.round_number + 1, config.federation.rounds + 1):
        cohort = draw_cohort(
            engine.sites,
            participation=config.federation.participation,
            min_sites=config.federation.min_sites,
            rng=seeds.child("cohort", round_number).numpy(),
        )
        state, report = _one_round(state, round_number, config=config, engine=engine, cohort=cohort)
        yield state, report


def _one_round(
    state: ServerState,
    round_number: int,
    *,
    config: RunConfig,
    engine: Engine,
    cohort: tuple[str, ...],
) -> tuple[ServerState, RoundReport]:
    started = time.perf_counter()
    body = TrainRequest(round_number=round_number, parameters=state.parameters).to_bytes()
    answers = engine.exchange(
        "train", dict.fromkeys(cohort, body), deadline_s=config.federation.deadline_s
    )
    replies, failures = _read(answers, round_number, num_parameters=state.parameters.size)
    if len(replies) < config.federation.min_sites:
        codes = ", ".join(f"{site}: {code}" for site, code in failures.items())
        raise TrainingError(
            f"round {round_number}: {len(replies)} of {len(cohort)} sites answered, fewer than "
            f"federation.min_sites = {config.federation.min_sites} ({codes}){_advice(failures)}"
        )
    weights = [float(reply.num_images) for reply in replies.values()]
    update = mean_update([reply.delta for reply in replies.values()], weights)
    new_state = _advance(state, update, config=config, steps=_mean_steps(replies))
    seconds = time.perf_counter() - started
    trained = sum(r.num_steps for r in replies.values()) * config.training.batch_size
    report = RoundReport(
        round_number=round_number,
        loss=float(np.average([r.loss for r in replies.values()], weights=weights)),
        sites=tuple(replies),
        failures=failures,
        num_images=int(sum(weights)),
        images_per_s=trained / seconds,
        seconds=seconds,
        bytes_down=len(body) * len(cohort),
        bytes_up=sum(len(a.body) for a in answers.values() if isinstance(a, Reply)),
        update_norm=float(np.linalg.norm(update)),
    )
    return new_state, report


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


def _mean_steps(replies: dict[str, TrainReply]) -> float:
    return sum(reply.num_steps for reply in replies.values()) / len(replies)


def _advance(
    state: ServerState, update: np.ndarray, *, config: RunConfig, steps: float
) -> ServerState:
    """The server's step, then the moving average."""
    parameters, momentum, second_moment = server_step(
        config.federation,
        update,
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
    )
