"""The second accountant against the first, and against formulas on paper."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.epsilon.ceilings import tpr_ceiling as attacks_ceiling
from attacks.epsilon.trade_off import approximate_dp
from phoenix_secure.compliance.accountant import OLD_GRID, agrees, recomputed_epsilon
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.ceiling import tpr_ceiling
from phoenix_secure.privacy.events import Adjacency, PoissonSampledGaussian, SkellamSum

SGD = PoissonSampledGaussian(sampling_rate=0.02, noise_multiplier=0.8, steps=200)
ONE = PoissonSampledGaussian(sampling_rate=1.0, noise_multiplier=2.0, steps=3)
SITES = SkellamSum(num_words=1000, l2_sensitivity=100.0, variance=90_000.0, releases=4)


SMALL = PoissonSampledGaussian(sampling_rate=0.02, noise_multiplier=60.0, steps=10_000)


@pytest.mark.long
@pytest.mark.parametrize("adjacency", list(Adjacency))
@pytest.mark.parametrize(
    "events",
    [
        [ONE],
        [SGD, ONE],
        [SITES],
        [SMALL],
        *(pytest.param(each, marks=pytest.mark.slow) for each in ([SGD], [SGD, SGD])),
    ],
)
def test_it_agrees_with_the_run_s_own_accounting(
    events: list[PoissonSampledGaussian | SkellamSum], adjacency: Adjacency
) -> None:
    quoted = epsilon_of(events, delta=1e-5, adjacency=adjacency).value
    again = recomputed_epsilon(events, delta=1e-5, adjacency=adjacency)
    assert agrees(quoted, again)
    assert quoted == pytest.approx(again, rel=0.004)


@pytest.mark.long
@pytest.mark.parametrize(
    ("q", "z", "steps"),
    [
        (0.01, 0.2102, 1000),
        pytest.param(0.5, 1.2, 2000, marks=pytest.mark.slow),
        pytest.param(1.0, 0.05, 10, marks=pytest.mark.slow),
        pytest.param(1e-3, 0.4, 10**6, marks=pytest.mark.slow),
        (0.01, 0.1, 2000),  # RDP's bound is ten times what PLD finds
    ],
)
def test_it_agrees_where_epsilon_is_hundreds(q: float, z: float, steps: int) -> None:
    """Orders from 2 on alone would find 13,000 in place of 200, and every report a FAIL."""
    event = PoissonSampledGaussian(sampling_rate=q, noise_multiplier=z, steps=steps)
    quoted = epsilon_of([event], delta=1e-5).value
    assert quoted > 150
    assert agrees(quoted, recomputed_epsilon([event], delta=1e-5))


def test_a_claim_may_be_cautious_and_not_too_small() -> None:
    assert agrees(0.0999, 0.0899)  # as earlier versions quoted it, with an error bound on top
    assert not agrees(0.0849, 0.0899)
    assert not agrees(0.13, 0.0899)
    assert not agrees(390.0, 350.0)
    assert not agrees(1000.0, 1100.0)


def test_the_grid_of_earlier_reports_gives_their_figures() -> None:
    """Measured with the version that wrote them."""
    event = PoissonSampledGaussian(sampling_rate=0.01, noise_multiplier=10.0, steps=1000)
    assert recomputed_epsilon([event], delta=1e-5, grid=OLD_GRID) == pytest.approx(
        0.09784096595282134, rel=1e-9
    )


def test_a_gaussian_on_all_records_follows_the_closed_form() -> None:
    """Balle and Wang (2018), Theorem 8: delta of a Gaussian of multiplier z at epsilon."""
    epsilon = recomputed_epsilon([ONE], delta=1e-5)
    mu = math.sqrt(3) / 2.0

    def phi(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    delta = phi(mu / 2 - epsilon / mu) - math.exp(epsilon) * phi(-mu / 2 - epsilon / mu)
    assert delta == pytest.approx(1e-5, rel=0.02)


def test_half_the_noise_does_not_pass_for_the_noise() -> None:
    less = PoissonSampledGaussian(sampling_rate=0.02, noise_multiplier=0.4, steps=200)
    assert not agrees(recomputed_epsilon([SGD], delta=1e-5), recomputed_epsilon([less], delta=1e-5))


def test_nothing_spends_nothing_and_delta_is_checked() -> None:
    assert recomputed_epsilon([], delta=1e-5) == 0.0
    with pytest.raises(ValueError, match="delta"):
        recomputed_epsilon([SGD], delta=0.0)


@given(
    fpr=st.floats(0.0, 1.0),
    epsilon=st.floats(0.0, 20.0),
    delta=st.sampled_from([0.0, 1e-5, 0.01]),
)
def test_the_ceiling_is_the_one_of_the_attacks_package(
    fpr: float, epsilon: float, delta: float
) -> None:
    other = attacks_ceiling(fpr, trade_off=approximate_dp(epsilon, delta=delta))
    assert tpr_ceiling(fpr, epsilon=epsilon, delta=delta) == pytest.approx(other, abs=1e-9)


def test_a_huge_epsilon_allows_everything() -> None:
    assert tpr_ceiling(0.5, epsilon=1e6, delta=0.0) == 1.0
