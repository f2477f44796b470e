"""Error feedback: rounding errors telescope, survive restarts, and never leave the site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.heterogeneity.checks import check_strategies
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.payload import encode_update
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.residuals import Residuals
from phoenix_secure.training.local import LocalUpdate

NARROW = ["secure_aggregation.word_bits=16", "exchange.error_feedback=true"]


def terms(*overrides: str) -> SecureTerms:
    config = load_config(None, ["secure_aggregation.word_bits=16", *overrides])
    return choose_terms(config, num_parameters=50, largest_site=64)


def update(delta: np.ndarray, num_images: int = 64) -> LocalUpdate:
    return LocalUpdate(
        delta=delta.astype(np.float32), num_images=num_images, num_steps=1, loss=1.0, seconds=0.0
    )


@given(st.integers(0, 2**31), st.integers(2, 12), st.sampled_from([64, 16]))
def test_the_sum_of_all_answers_is_off_by_one_rounding_however_many_there_were(
    seed: int, rounds: int, num_images: int
) -> None:
    rng, agreed = np.random.default_rng(seed), terms()
    weight = agreed.metric_words.weight(num_images)
    residual = np.zeros(50, np.float32)
    wanted, sent = np.zeros(50), np.zeros(50)
    for _ in range(rounds):
        one = update(rng.normal(0, 0.01, 50), num_images)
        payload = encode_update(one, terms=agreed, rounding_key=rng.bytes(32), residual=residual)
        assert payload.residual is not None
        residual = payload.residual
        wanted += one.delta
        sent += payload.words / agreed.scale / weight
    one_step = 1 / (agreed.scale * weight)
    assert np.abs(wanted - sent).max() <= one_step * (1 + 1e-3)
    assert np.abs(wanted - sent - residual).max() < 1e-5


def test_without_feedback_the_errors_add_up() -> None:
    rng, agreed = np.random.default_rng(0), terms()
    wanted, sent = np.zeros(50), np.zeros(50)
    for _ in range(60):
        one = update(rng.normal(0, 0.01, 50))
        payload = encode_update(one, terms=agreed, rounding_key=rng.bytes(32))
        assert payload.residual is None
        wanted += one.delta
        sent += payload.words / agreed.scale
    assert np.abs(wanted - sent).max() > 3 / agreed.scale


def test_feedback_keeps_to_the_clip_norm_that_the_site_guarantee_is_made_from() -> None:
    agreed = terms("privacy.unit=site", "privacy.noise_multiplier=1", "privacy.clip_norm=0.5")
    assert agreed.noise is not None
    huge = np.full(50, 9.0, np.float32)
    payload = encode_update(
        update(huge), terms=agreed, rounding_key=bytes(32), residual=np.full(50, 5.0, np.float32)
    )
    assert np.linalg.norm(payload.words.astype(float)) <= agreed.noise.l2_bound


def test_residuals_are_of_the_round_before_and_for_the_site_alone(tmp_path: Path) -> None:
    store = Residuals(tmp_path / "residuals", keep=2)
    assert not store.before(1, size=3).any()
    for number in (1, 2, 3):
        store.save(number, np.full(3, number, np.float32))
    again = Residuals(tmp_path / "residuals", keep=2)
    assert again.before(4, size=3).tolist() == [3, 3, 3]
    assert again.before(3, size=3).tolist() == [2, 2, 2]  # a round that is repeated
    assert len(list((tmp_path / "residuals").iterdir())) == 2
    newest = tmp_path / "residuals" / "round-000003.safetensors"
    assert newest.stat().st_mode & 0o077 == 0
    with pytest.raises(CheckpointError, match="one rounding is lost"):
        again.before(4, size=4)
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"round-000003\.safetensors is damaged"):
        again.before(4, size=3)


@pytest.mark.long
def test_a_resumed_run_is_the_same_run_and_narrow_words_are_half_the_bytes(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*secure_settings, *NARROW])

    def states(path: Path, *, stop_after: int | None) -> tuple[np.ndarray, int]:
        folder = RunFolder(path)
        federation = Run(SimulatedSites(config, cache_dir=cache_dir))
        steps = federation.rounds(federation.start(folder, overwrite=False), folder)
        for number, _ in enumerate(steps, start=1):
            if number == stop_after:
                steps.close()
                again = Run(SimulatedSites(config, cache_dir=cache_dir))
                list(again.rounds(again.resume(folder), folder))
                break
        assert len(list(path.glob("sites/*/residuals/*"))) >= 5
        lines = folder.read_metrics()
        return folder.load_state(config=config).parameters, lines[-1]["bytes_up"]

    whole, narrow_bytes = states(tmp_path / "whole", stop_after=None)
    resumed, _ = states(tmp_path / "resumed", stop_after=2)
    np.testing.assert_array_equal(whole, resumed)
    wide = load_config(None, [*secure_settings, "secure_aggregation.word_bits=32"])
    federation = Run(SimulatedSites(wide, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "wide")
    list(federation.rounds(federation.start(folder, overwrite=False), folder))
    assert narrow_bytes < 0.6 * folder.read_metrics()[-1]["bytes_up"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["secure_aggregation.mode=off"], "needs secure_aggregation.mode=on"),
        (["exchange.upload=alternate"], "needs exchange.upload=all"),
    ],
)
def test_where_it_would_do_nothing_or_harm_it_is_refused(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_strategies(load_config(None, ["exchange.error_feedback=true", *overrides]))
