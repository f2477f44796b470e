"""SCAFFOLD at the sites alone: the algorithm as published, and the optimum that FedAvg misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.heterogeneity.exchange import whole_exchange
from phoenix_secure.federation.heterogeneity.memory import Memory
from phoenix_secure.federation.heterogeneity.site_round import SiteStrategies
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.schedule import learning_rate

STEPS, ROUNDS, SITES = 5, 40, 4
SETTINGS = [
    *(f"training.local_steps={STEPS}", f"federation.rounds={ROUNDS}", "training.optimizer=sgd"),
    *("training.learning_rate=0.1", "training.warmup_steps=12", "secure_aggregation.mode=off"),
    *("training.lr_decay=none",),
]
RNG = np.random.default_rng(5)
# Each site's loss is half of sum(curvature (w - target)^2): the best of all sites is no mean of
# their own best, which is where FedAvg with many local steps ends.
CURVATURE = RNG.uniform(0.2, 3, (SITES, 3))
TARGET = RNG.normal(0, 3, (SITES, 3))
OPTIMUM = (CURVATURE * TARGET).sum(axis=0) / CURVATURE.sum(axis=0)


def settings(*overrides: str) -> RunConfig:
    return load_config(None, [*SETTINGS, *overrides])


def gradient(site: int, weights: np.ndarray) -> np.ndarray:
    return CURVATURE[site] * (weights - TARGET[site])


def rates(config: RunConfig, number: int) -> list[float]:
    steps = range((number - 1) * STEPS, number * STEPS)
    return [learning_rate(config.training, step=s, num_steps=STEPS * ROUNDS) for s in steps]


def trained(config: RunConfig, site: int):
    """SGD of one site, in place of a network's."""

    def train(vector: np.ndarray, number: int, drift: np.ndarray | None) -> LocalUpdate:
        weights = vector.astype(np.float64)
        for rate in rates(config, number):
            weights = weights - rate * gradient(site, weights)
            if drift is not None:
                weights = weights + rate * drift
        delta = (weights - vector).astype(np.float32)
        return LocalUpdate(delta=delta, num_images=1, num_steps=STEPS, loss=0.0, seconds=0.0)

    return train


def ours(config: RunConfig, folder: Path) -> list[np.ndarray]:
    sites = [
        SiteStrategies(
            config,
            exchange=whole_exchange(3),
            memory=Memory(folder / str(site), keep=2) if config.training.control_variates else None,
            start=lambda: np.empty(0, np.float32),
            num_images=1,
        )
        for site in range(SITES)
    ]
    model = np.zeros(3, np.float32)
    models = []
    for number in range(1, ROUNDS + 1):
        request = TrainRequest(round_number=number, parameters=model)
        found = [each.answer(request, train=trained(config, s)) for s, each in enumerate(sites)]
        model = model + np.mean([each.delta for each in found], axis=0, dtype=np.float32)
        models.append(model)
    return models


def published(config: RunConfig) -> list[np.ndarray]:
    """Algorithm 1 with option II, all sites in every round, global rate 1."""
    model, common, own = np.zeros(3), np.zeros(3), np.zeros((SITES, 3))
    models = []
    for number in range(1, ROUNDS + 1):
        ends, new = [], []
        for site in range(SITES):
            weights = model.copy()
            for rate in rates(config, number):
                weights -= rate * (gradient(site, weights) - own[site] + common)
            ends.append(weights)
            total = sum(rates(config, number))  # K eta_l, under a schedule
            new.append(own[site] - common + (model - weights) / total)
        common = common + np.mean(np.array(new) - own, axis=0)
        own, model = np.array(new), np.mean(ends, axis=0)
        models.append(model)
    return models


def test_moves_of_the_model_are_the_published_control_variates(tmp_path: Path) -> None:
    config = settings("training.control_variates=true")
    found, expected = ours(config, tmp_path), published(config)
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.allclose(found[-1], OPTIMUM, atol=1e-3)


def test_without_them_many_local_steps_end_elsewhere(tmp_path: Path) -> None:
    assert np.abs(ours(settings(), tmp_path)[-1] - OPTIMUM).max() > 0.1


def test_a_repeated_round_and_a_missed_one_go_on_from_what_was_before(tmp_path: Path) -> None:
    config = settings("training.control_variates=true")
    site = SiteStrategies(
        config,
        exchange=whole_exchange(3),
        memory=Memory(tmp_path, keep=4),
        start=lambda: np.empty(0, np.float32),
        num_images=1,
    )
    seen: list[np.ndarray | None] = []

    def train(vector: np.ndarray, number: int, drift: np.ndarray | None) -> LocalUpdate:
        seen.append(drift)
        return trained(config, 0)(vector, number, drift)

    models = {1: np.zeros(3, np.float32), 2: np.ones(3, np.float32), 4: np.full(3, 2, np.float32)}
    for number in (1, 2, 2, 4):
        site.answer(TrainRequest(round_number=number, parameters=models[number]), train=train)
    first, second, again, fourth = seen
    assert first is None
    assert np.array_equal(second, again)
    # The common move from round 2 to 4 is over the rates of two rounds.
    kept = Memory(tmp_path, keep=4).of(2)
    common = np.ones(3) / (sum(rates(config, 2)) + sum(rates(config, 3)))
    assert np.allclose(fourth, common - kept.moved.own, rtol=1e-5)


def test_a_damaged_memory_is_an_error(tmp_path: Path) -> None:
    config = settings("training.control_variates=true")
    ours(config, tmp_path)
    (newest,) = list((tmp_path / "0").glob(f"*{ROUNDS}.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        Memory(tmp_path / "0", keep=2).of(ROUNDS)


@pytest.mark.parametrize(
    ("overrides", "fix"),
    [
        (["federation.server_optimizer=fedadam"], "needs federation.server_optimizer=fedavg"),
        (["federation.server_learning_rate=0.5"], r"needs federation.server_learning_rate=1"),
        (["federation.participation=0.5"], r"needs federation.participation=1"),
        (
            ["training.local_steps=null", "training.local_epochs=1"],
            "needs training.local_epochs=null",
        ),
        (["exchange.personal=[last-layers]"], r"needs exchange.personal=\[\]"),
        (["exchange.upload=alternate"], "needs exchange.upload=all"),
        (["filtering.threshold=0.5"], r"needs filtering.threshold=0"),
        (["privacy.unit=record", "privacy.epsilon=8"], "needs privacy.unit=none"),
    ],
)
def test_what_would_break_the_common_one_is_refused(overrides: list[str], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        settings("training.control_variates=true", *overrides)
