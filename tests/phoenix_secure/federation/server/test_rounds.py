"""The server's loop, with sites whose answers are known in advance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.round.cohort import draw_cohort
from phoenix_secure.federation.round.messages import TrainReply, TrainRequest
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.server.plaintext_round import PlaintextAggregator
from phoenix_secure.federation.server.rounds import FinishedRound, run_rounds
from phoenix_secure.rng import SeedTree


class ScriptedEngine:
    """Sites that answer by a rule: site k of n holds k images and moves every weight by k."""

    def __init__(self, num_sites: int, failures: Mapping[str, FailureCode] | None = None) -> None:
        self.sites = tuple(f"site-{k:02d}" for k in range(1, num_sites + 1))
        self.failures = dict(failures or {})
        self.asked: list[tuple[str, ...]] = []

    def exchange(self, stage: str, requests: Mapping[str, bytes], **_: object) -> dict:
        self.asked.append(tuple(requests))
        answers: dict[str, Reply | Failure] = {}
        for site, body in requests.items():
            if site in self.failures:
                answers[site] = Failure(code=self.failures[site])
                continue
            request = TrainRequest.from_bytes(body)
            k = int(site[-2:])
            answers[site] = Reply(
                body=TrainReply(
                    round_number=request.round_number,
                    delta=np.full_like(request.parameters, k),
                    num_images=k,
                    num_steps=4,
                    loss=float(k),
                    seconds=1.0,
                ).to_bytes()
            )
        return answers

    def close(self) -> None:
        pass


def run(engine: ScriptedEngine, *overrides: str) -> tuple[ServerState, list]:
    config: RunConfig = load_config(
        None, [f"partition.num_sites={len(engine.sites)}", "federation.rounds=3", *overrides]
    )
    state = ServerState.initial(np.zeros(4, np.float32), federation=config.federation)
    reports = []
    aggregator = PlaintextAggregator(engine, federation=config.federation)
    for event in run_rounds(state, config=config, aggregator=aggregator, seeds=SeedTree(0)):
        assert isinstance(event, FinishedRound)
        state = event.state
        reports.append(event.report)
    return state, reports


def test_model_moves_by_the_weighted_mean_of_each_round() -> None:
    state, reports = run(ScriptedEngine(3), "ema.decay=0")
    mean = (1 * 1 + 2 * 2 + 3 * 3) / 6
    np.testing.assert_allclose(state.parameters, 3 * mean, rtol=1e-6)
    np.testing.assert_array_equal(state.ema, state.parameters)
    assert state.round_number == 3
    assert [report.round_number for report in reports] == [1, 2, 3]
    assert reports[0].loss == pytest.approx(mean)
    assert reports[0].update_norm == pytest.approx(mean * 2)
    assert reports[0].num_images == 6
    assert reports[0].bytes_up > 3 * 4 * 4
    assert reports[0].secure_aggregation == "off"


def test_silent_sites_are_reported_and_left_out_of_the_mean() -> None:
    engine = ScriptedEngine(3, {"site-03": FailureCode.NO_REPLY})
    state, reports = run(engine, "federation.rounds=1")
    np.testing.assert_allclose(state.parameters, 5 / 3, rtol=1e-6)
    assert reports[0].failures == {"site-03": "no-reply"}
    assert reports[0].sites == ("site-01", "site-02")


def test_too_few_answers_stop_the_run_with_the_reason() -> None:
    engine = ScriptedEngine(3, {"site-01": FailureCode.DIVERGED, "site-02": FailureCode.ERROR})
    with pytest.raises(TrainingError) as caught:
        run(engine, "federation.min_sites=2")
    text = str(caught.value)
    assert "round 1: 1 of 3 sites answered" in text
    assert "federation.min_sites = 2" in text
    assert "lower training.learning_rate" in text


def test_infinite_model_stops_the_run() -> None:
    engine = ScriptedEngine(2)
    original = engine.exchange

    def huge(stage: str, requests: Mapping[str, bytes], **more: object) -> dict:
        answers = original(stage, requests, **more)
        for site, body in requests.items():
            request = TrainRequest.from_bytes(body)
            answers[site] = Reply(
                body=TrainReply(
                    round_number=request.round_number,
                    delta=np.full_like(request.parameters, 3e38),
                    num_images=1,
                    num_steps=1,
                    loss=1.0,
                    seconds=1.0,
                ).to_bytes()
            )
        return answers

    engine.exchange = huge  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"federation\.server_learning_rate"):
        run(engine)


def test_cohort_is_a_share_of_the_sites_and_changes_by_round() -> None:
    engine = ScriptedEngine(10)
    run(engine, "federation.participation=0.3", "federation.rounds=6")
    assert all(len(cohort) == 3 and cohort == tuple(sorted(cohort)) for cohort in engine.asked)
    assert len(set(engine.asked)) > 1
    again = ScriptedEngine(10)
    run(again, "federation.participation=0.3", "federation.rounds=6")
    assert again.asked == engine.asked


@pytest.mark.parametrize(
    ("participation", "min_sites", "size"), [(1.0, 1, 7), (0.01, 1, 1), (0.01, 3, 3), (0.5, 1, 4)]
)
def test_cohort_size(participation: float, min_sites: int, size: int) -> None:
    sites = tuple(f"s{k}" for k in range(7))
    cohort = draw_cohort(
        sites, participation=participation, min_sites=min_sites, rng=SeedTree(0).numpy()
    )
    assert len(set(cohort)) == size
    assert set(cohort) <= set(sites)


def test_rounds_from_a_later_state_are_the_same_rounds() -> None:
    engine = ScriptedEngine(6)
    config = load_config(
        None,
        [
            "partition.num_sites=6",
            "federation.rounds=5",
            "federation.participation=0.5",
            "federation.server_optimizer=fedadam",
        ],
    )
    state = ServerState.initial(np.zeros(4, np.float32), federation=config.federation)
    given = {
        "config": config,
        "aggregator": PlaintextAggregator(engine, federation=config.federation),
        "seeds": SeedTree(0),
    }
    states = [event.state for event in run_rounds(state, **given)]
    *_, last = run_rounds(states[1], **given)
    resumed = last.state
    np.testing.assert_array_equal(resumed.parameters, states[-1].parameters)
    np.testing.assert_array_equal(resumed.ema, states[-1].ema)
