"""Calibration: the least noise that fits, few evaluations, and budgets that mean nothing."""

from __future__ import annotations

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy import calibration
from phoenix_secure.privacy.accounting import AccountingError, epsilon_of
from phoenix_secure.privacy.calibration import calibrate, check_budget, noise_multiplier_for
from phoenix_secure.privacy.events import Adjacency, PoissonSampledGaussian


def spent(q: float, z: float, steps: int) -> float:
    event = PoissonSampledGaussian(sampling_rate=q, noise_multiplier=z, steps=steps)
    return epsilon_of([event], delta=1e-5).value


@pytest.mark.long
@pytest.mark.parametrize(
    ("epsilon", "q", "steps"),
    [
        (0.1, 0.01, 1000),
        pytest.param(1.0, 0.01, 1000, marks=pytest.mark.slow),
        pytest.param(10.0, 0.01, 1000, marks=pytest.mark.slow),
        (1.961, 64 / 6000, 1000),
        (3.0, 1.0, 20),
        pytest.param(200.0, 0.05, 300, marks=pytest.mark.slow),
        (900.0, 0.5, 2000),
    ],
)
def test_calibration_finds_the_least_noise_that_fits(epsilon, q, steps) -> None:
    noise = noise_multiplier_for(epsilon=epsilon, delta=1e-5, sampling_rate=q, steps=steps)
    assert 0.98 * epsilon < spent(q, noise, steps) <= epsilon
    assert spent(q, 0.99 * noise, steps) > epsilon


def test_calibration_and_its_inverse_meet() -> None:
    noise = noise_multiplier_for(epsilon=1.961, delta=1e-5, sampling_rate=64 / 6000, steps=1000)
    assert noise == pytest.approx(1.0, abs=0.003)


@pytest.mark.long
@pytest.mark.parametrize(
    "epsilon",
    [0.1, *(pytest.param(each, marks=pytest.mark.slow) for each in (1.0, 8.0)), 200.0],
)
def test_a_budget_takes_few_evaluations(monkeypatch: pytest.MonkeyPatch, epsilon: float) -> None:
    asked = []
    right = calibration.bound_of

    def counted(events, *, delta: float) -> float:
        asked.append(events)
        return right(events, delta=delta)

    monkeypatch.setattr(calibration, "bound_of", counted)
    calibrate(
        lambda z: [PoissonSampledGaussian(sampling_rate=0.02, noise_multiplier=z, steps=500)],
        epsilon=epsilon,
        delta=1e-5,
    )
    assert len(asked) <= 14


def test_budget_that_no_noise_meets_is_refused_with_the_settings_to_change() -> None:
    with pytest.raises(ConfigError, match=r"raise epsilon to [\d.]+, or lower sampling_rate"):
        noise_multiplier_for(epsilon=0.005, delta=1e-5, sampling_rate=1.0, steps=10**6)
    with pytest.raises(ConfigError, match=r"raise epsilon to [\d.]+, or lower sampling_rate"):
        noise_multiplier_for(epsilon=1e-9, delta=1e-5, sampling_rate=1.0, steps=100)
    with pytest.raises(ValueError, match="epsilon > 0"):
        noise_multiplier_for(epsilon=0.0, delta=1e-5, sampling_rate=0.1, steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", [8000.0, 9990.0])
def test_noise_up_to_the_largest_is_found_although_guesses_go_beyond(multiplier: float) -> None:
    event = PoissonSampledGaussian(sampling_rate=1.0, noise_multiplier=multiplier, steps=1)
    epsilon = epsilon_of([event], delta=1e-5).value
    found = noise_multiplier_for(epsilon=epsilon, delta=1e-5, sampling_rate=1.0, steps=1)
    assert found == pytest.approx(multiplier, rel=0.003)


def test_next_to_no_noise_is_refused_and_not_computed() -> None:
    for multiplier in (1e-300, 1e-10):
        event = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=multiplier, steps=1)
        with pytest.raises(AccountingError, match="hides nothing"):
            epsilon_of([event], delta=1e-5)


@pytest.mark.slow
def test_a_rate_and_a_noise_at_which_epsilon_is_next_to_zero_take_no_finer_grid() -> None:
    """RDP is 20,000 times above the truth here, and a grid for 0.2 percent would have 10^8 bins:
    memory would end before any time limit does."""
    event = PoissonSampledGaussian(sampling_rate=1e-5, noise_multiplier=1.0, steps=10)
    for adjacency in Adjacency:
        assert 0 < epsilon_of([event], delta=1e-5, adjacency=adjacency).value < 1e-4


@pytest.mark.parametrize("delta", [0.1, 0.01, 1.0, 2.0])
def test_a_delta_that_gives_records_away_is_refused_as_that(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy.delta = .* well below 1/images.*lower it"):
        noise_multiplier_for(epsilon=1.0, delta=delta, sampling_rate=0.01, steps=100)


@pytest.mark.parametrize("delta", [0.0, -1.0, 1e-300, 1e-13])
def test_a_delta_that_no_accountant_resolves_is_refused_as_that(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy.delta = .* raise it"):
        check_budget(delta=delta)


@pytest.mark.parametrize("epsilon", [1e9, float("inf"), float("nan"), 0.0, -1.0])
def test_an_epsilon_that_promises_nothing_is_refused(epsilon: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy.epsilon = .* choose 1 to 10"):
        check_budget(delta=1e-5, epsilon=epsilon)
