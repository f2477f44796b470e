"""A heterogeneity strategy of the user's own changes what leaves, and no guarantee rests on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phoenix_secure import extensions
from phoenix_secure.config_file import load_config, parse_config
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.heterogeneity.own_strategy import own_strategy
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.training.local import LocalUpdate

UPDATE = LocalUpdate(
    delta=np.array([4.0, -2.0], np.float32), num_images=7, num_steps=2, loss=0.5, seconds=1.0
)
MODEL = np.array([1.0, 2.0], np.float32)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_REGISTERED", {})


def register(strategy: Callable[..., Any]) -> None:
    extensions.register("heterogeneity_strategy", "own", strategy)


def test_what_it_returns_takes_the_updates_place_and_no_other_fact_changes() -> None:
    asked: dict[str, Any] = {}

    def halved(update: np.ndarray, **facts: Any) -> np.ndarray:
        asked.update(facts)
        update /= facts["num_steps"]  # its own copy
        return update.astype(np.float64)

    register(halved)
    found = own_strategy("own")(UPDATE, MODEL, 3)
    assert found.delta.tolist() == [2.0, -1.0]
    assert found.delta.dtype == np.float32
    assert UPDATE.delta.tolist() == [4.0, -2.0]
    assert (found.num_images, found.num_steps, found.loss) == (7, 2, 0.5)
    assert asked["parameters"].tolist() == [1.0, 2.0]
    assert (asked["round_number"], asked["num_steps"]) == (3, 2)


def test_without_one_the_update_is_the_same_object() -> None:
    assert own_strategy(None)(UPDATE, MODEL, 1) is UPDATE


def _writes_the_model(update: np.ndarray, *, parameters: np.ndarray, **_: Any) -> np.ndarray:
    parameters += 1
    return update


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (lambda update, **_: update[:1], "array of 2 floating-point numbers"),
        (lambda update, **_: update.astype(int), "array of 2 floating-point numbers"),
        (lambda update, **_: list(update), "array of 2 floating-point numbers"),
        (lambda update, **_: update * np.nan, "NaN or infinite"),
        (lambda update, **_: np.full(2, 1e300), "NaN or infinite"),  # beyond float32
        (lambda update, **_: 1 / 0, "failed with ZeroDivisionError"),
        (_writes_the_model, "failed with ValueError"),
        (lambda update: update, "failed with TypeError"),
    ],
)
def test_what_is_no_update_fails_as_a_training_does(
    strategy: Callable[..., Any], message: str
) -> None:
    register(strategy)
    with pytest.raises(TrainingError, match=message) as raised:
        own_strategy("own")(UPDATE, MODEL, 1)
    assert "4.0" not in str(raised.value)  # an error says nothing about the update
    assert MODEL.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": {"exchange": "gradients"}, "training": {"local_steps": 1}},
        {
            "release": {"features": "pixel"},
            "privacy": {"unit": "record", "trust": "sum", "epsilon": 8, "delta": 1e-5},
            "federation": {"rounds": 1},
        },
    ],
)
def test_rounds_without_an_update_refuse_it(changes: dict[str, Any]) -> None:
    register(lambda update, **_: update)
    parse_config({"exchange": {"strategy": "own"}})
    if "training" in changes:
        optimizer = {"optimizer": "sgd", "weight_decay": 0.0, "grad_clip": None}
        changes["training"] |= optimizer
    with pytest.raises(ConfigError, match=r"needs exchange\.strategy=null"):
        parse_config({**changes, "exchange": {"strategy": "own"}})


def test_who_has_not_installed_it_refuses_the_settings() -> None:
    """A site of a deployment reads its plan with this very check."""
    with pytest.raises(ConfigError, match=r"exchange\.strategy: no heterogeneity strategy 'own'"):
        parse_config({"exchange": {"strategy": "own"}})


def test_no_bound_of_a_sum_rests_on_it(secure_settings: list[str], tmp_path: Path) -> None:
    """One that multiplies every update by a million moves the model no further than the clip."""
    register(lambda update, **_: update * np.float32(1e6))
    settings = [*secure_settings, "federation.rounds=1", "exchange.strategy=own"]
    config = load_config(None, settings)
    run = Run(SimulatedSites(config, cache_dir=tmp_path / "cache"))
    folder = RunFolder(tmp_path / "run")
    state = run.start(folder, overwrite=False)
    before = state.parameters.copy()
    assert len(list(run.rounds(state, folder))) == 1
    moved = folder.load_state(config=config).parameters - before
    limit = 0.05 * moved.size**0.5  # secure_aggregation.clip_norm where it is empty
    assert 0.2 * limit < np.linalg.norm(moved) <= 1.001 * limit
