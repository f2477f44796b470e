"""The norm follows the updates, and what is released stays within what is accounted for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import PrivacyConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.messages import MalformedMessage, TrainRequest
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.adaptive_clip import (
    count_weight,
    next_clip_factor,
    sensitivity_ratio,
)
from phoenix_secure.federation.secagg.payload import encode_update, unclipped_fraction
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.training.local import LocalUpdate

UNIT = [
    "privacy.unit=site",
    "privacy.noise_multiplier=2",
    "privacy.clip_norm=0.5",
    "privacy.adaptive_clip=true",
    "secure_aggregation.word_bits=32",
    "partition.num_sites=6",
]


def site_privacy(**changes: object) -> PrivacyConfig:
    return PrivacyConfig(unit="site", noise_multiplier=1.0, adaptive_clip=True, **changes)


def terms(*changes: str, num_parameters: int = 300) -> SecureTerms:
    return choose_terms(load_config(None, [*UNIT, *changes]), num_parameters=num_parameters)


def update(delta: np.ndarray) -> LocalUpdate:
    return LocalUpdate(
        delta=delta.astype(np.float32), num_images=10, num_steps=20, loss=0.5, seconds=0.0
    )


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5])
def test_the_split_of_the_noise_is_theorem_1_of_the_paper(share: float) -> None:
    """z^-2 = z_update^-2 + (2 sigma_count)^-2, by the paper's own symbols."""
    privacy = site_privacy(clip_budget=share)
    z, kappa, longer = 1.7, count_weight(privacy), sensitivity_ratio(privacy)
    z_update = z * longer
    sigma_count = z * longer / (2 * kappa)
    assert z_update**-2 + (2 * sigma_count) ** -2 == pytest.approx(z**-2)
    assert kappa**2 / longer**2 == pytest.approx(share)


@given(
    norm=st.floats(1e-6, 1e6),
    factor=st.floats(2.0**-10, 2.0**10),
    seed=st.integers(0, 2**32 - 1),
)
def test_nothing_a_site_enters_is_longer_than_the_accounted_bound(
    norm: float, factor: float, seed: int
) -> None:
    agreed = _TERMS
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=agreed.num_parameters)
    delta *= norm / np.linalg.norm(delta)
    found = encode_update(
        update(delta), terms=agreed, rounding_key=rng.bytes(32), clip_factor=factor
    )
    assert agreed.noise is not None
    assert found.words.size == agreed.num_parameters + 1 == agreed.noise.event.num_words
    assert np.linalg.norm(found.words.astype(float)) <= agreed.noise.l2_bound
    says_within = found.words[-1] > 0
    # Rounding in float32 decides between neighbours of the norm itself.
    if not math.isclose(norm, agreed.clip_norm * factor, rel_tol=1e-5):
        assert says_within == (norm < agreed.clip_norm * factor)


_TERMS = terms()


def test_the_bound_without_a_count_would_be_broken() -> None:
    """The sensitivity ratio is for this: a full update and the count are longer than C."""
    agreed = terms(num_parameters=4)
    noise = terms("privacy.adaptive_clip=false", num_parameters=4).noise
    assert agreed.noise is not None
    assert noise is not None
    assert agreed.noise.l2_bound / agreed.scale > noise.l2_bound / terms().scale
    delta = np.full(4, 1.0)
    found = encode_update(update(delta), terms=agreed, rounding_key=bytes(32))
    length = np.linalg.norm(found.words.astype(float)) / agreed.scale
    assert length == pytest.approx(agreed.clip_norm * math.sqrt(1 / (1 - 0.02)), rel=1e-3)


@pytest.mark.parametrize("norm", [0.0123, 0.07, 0.3, 0.5, 1e-5])
def test_the_count_fits_whatever_the_norm_and_the_bound_of_a_coordinate(norm: float) -> None:
    agreed = terms(f"privacy.clip_norm={norm}", "secure_aggregation.clip_value=0.0001")
    found = encode_update(
        update(np.zeros(agreed.num_parameters)), terms=agreed, rounding_key=bytes(32)
    )
    assert found.words[-1] / agreed.scale == pytest.approx(agreed.clip_bit_value, rel=0.01)


@pytest.mark.parametrize("largest", [1e-30, 1.0, 4e32, 3e38])
@pytest.mark.parametrize("factor", [2.0**-20, 1.0, 2.0**20])
def test_no_finite_update_makes_an_error_whatever_the_server_s_factor(
    largest: float, factor: float
) -> None:
    """An error would tell, unnoised, how long the update was."""
    delta = np.full(_TERMS.num_parameters, largest)
    found = encode_update(update(delta), terms=_TERMS, rounding_key=bytes(32), clip_factor=factor)
    assert _TERMS.noise is not None
    assert np.linalg.norm(found.words.astype(float)) <= _TERMS.noise.l2_bound


@pytest.mark.parametrize("num_within", [0, 3, 6])
def test_the_share_within_the_norm_is_read_back(num_within: int) -> None:
    total = np.zeros(_TERMS.num_words, np.int64)
    for site in range(6):
        size = 0.1 if site < num_within else 10.0
        delta = np.zeros(_TERMS.num_parameters)
        delta[site] = size
        total += encode_update(update(delta), terms=_TERMS, rounding_key=bytes([site] * 32)).words
    found = unclipped_fraction(total.astype(np.uint32), num_sites=6, terms=_TERMS)
    assert found == pytest.approx(num_within / 6, abs=1e-3)


def test_the_norm_settles_where_the_asked_share_of_updates_is_within() -> None:
    privacy = site_privacy(clip_quantile=0.3, clip_learning_rate=0.5)
    norms = np.random.default_rng(1).lognormal(mean=2.0, sigma=0.5, size=2000)
    factor = 1.0
    for _ in range(200):
        within = float((norms <= factor).mean())
        factor = next_clip_factor(factor, unclipped_fraction=within, privacy=privacy)
    assert factor == pytest.approx(np.quantile(norms, 0.3), rel=0.05)


def test_a_count_that_the_noise_pushed_out_of_range_moves_the_norm_no_faster() -> None:
    privacy = site_privacy()
    assert next_clip_factor(1.0, unclipped_fraction=-40.0, privacy=privacy) == pytest.approx(
        math.exp(0.1)
    )
    assert next_clip_factor(1e3, unclipped_fraction=0.0, privacy=privacy) == 1e3


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf, 2.0**21])
def test_a_factor_that_makes_no_sense_is_malformed(factor: float) -> None:
    body = TrainRequest(
        round_number=1, parameters=np.zeros(1, np.float32), clip_factor=factor
    ).to_bytes()
    with pytest.raises(MalformedMessage):
        TrainRequest.from_bytes(body)


def test_a_factor_where_none_was_agreed_is_refused() -> None:
    agreed = terms("privacy.adaptive_clip=false")
    with pytest.raises(ValueError, match="no clip factor"):
        encode_update(
            update(np.zeros(agreed.num_parameters)),
            terms=agreed,
            rounding_key=bytes(32),
            clip_factor=0.5,
        )


def test_only_whole_updates_have_an_adaptive_norm() -> None:
    with pytest.raises(ConfigError, match="adaptive_clip is for whole updates"):
        load_config(
            None, ["privacy.unit=record", "privacy.epsilon=3", "privacy.adaptive_clip=true"]
        )


@pytest.mark.long
def test_a_run_moves_its_norm_resumes_exactly_and_charges_the_longer_input(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    changes = [
        "privacy.unit=site",
        "privacy.noise_multiplier=0.05",
        "privacy.clip_norm=0.001",
        "privacy.adaptive_clip=true",
        "privacy.noise_source=seeded",
        "secure_aggregation.word_bits=32",
        "federation.rounds=4",
    ]
    config = load_config(None, [*secure_settings, *changes])

    def run(folder: RunFolder, *, stop_after: int | None) -> list[float]:
        federation = Run(SimulatedSites(config, cache_dir=cache_dir))
        state = federation.start(folder, overwrite=False)
        steps = federation.rounds(state, folder)
        for number, _ in enumerate(steps, start=1):
            if number == stop_after:
                steps.close()
                again = Run(SimulatedSites(config, cache_dir=cache_dir))
                for _ in again.rounds(again.resume(folder), folder):
                    pass
                break
        return [line["secure"]["clip_norm"] for line in folder.read_metrics()]

    whole = RunFolder(tmp_path / "whole")
    norms = run(whole, stop_after=None)
    # Every update is far longer than the first norm: it grows by exp(0.2 * 0.5) a round, but for
    # the noise of the count.
    assert norms == pytest.approx([0.001 * math.exp(0.1 * k) for k in range(4)], rel=0.1)
    broken = RunFolder(tmp_path / "broken")
    assert run(broken, stop_after=2) == norms
    np.testing.assert_array_equal(
        whole.load_state(config=config).parameters, broken.load_state(config=config).parameters
    )
    terms_of_run = SimulatedSites(config, cache_dir=cache_dir).terms
    assert terms_of_run is not None
    assert terms_of_run.noise is not None
    event = terms_of_run.noise.event
    assert event.num_words == terms_of_run.num_parameters + 1
    longest = 0.001 * math.sqrt(1 / 0.98) * terms_of_run.scale
    assert event.l2_sensitivity >= longest
