"""Both accountants against published figures and an integral of our own, in both directions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy import accounting
from phoenix_secure.privacy.accounting import AccountingError, epsilon_of
from phoenix_secure.privacy.calibration import noise_multiplier_for
from phoenix_secure.privacy.events import PoissonSampledGaussian, SkellamSum

PLD, PRV, RDP = "pld (dp-accounting)", "prv (opacus)", "rdp (opacus)"


def gaussian(q: float, z: float, steps: int) -> PoissonSampledGaussian:
    return PoissonSampledGaussian(sampling_rate=q, noise_multiplier=z, steps=steps)


def gaussian_epsilon(z: float, steps: int, delta: float) -> float:
    """Exact: T Gaussians of multiplier z are one of z / sqrt(T) (Balle and Wang 2018, Thm 8)."""
    mu = math.sqrt(steps) / z

    def excess(e: float) -> float:
        return norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta

    return float(brentq(excess, 0, 500, xtol=1e-10))


def sampled_epsilon(q: float, z: float, steps: int, delta: float, *, grid: float = 2e-3) -> float:
    """Privacy loss of the subsampled Gaussian on a grid, convolved by FFT; both directions.

    Slow and plain: the loss under N(0, z^2) against the mixture, in bins of width ``grid``,
    rounded to the nearest, its characteristic function to the power of steps.
    """

    def loss(x: np.ndarray) -> np.ndarray:
        return np.log1p(q * np.expm1((2 * x - 1) / (2 * z * z)))

    x = np.linspace(-14 * z, 1 + 14 * z, 4_000_001)
    mid, width = (x[1:] + x[:-1]) / 2, x[1] - x[0]
    p0 = norm.pdf(mid, 0, z) * width
    p1 = (1 - q) * p0 + q * norm.pdf(mid, 1, z) * width
    size = 1 << 17
    found = []
    for mass, values in ((p1, loss(mid)), (p0, -loss(mid))):
        bins = np.rint(values / grid).astype(int)
        density = np.bincount(bins % size, weights=mass, minlength=size)
        total = np.fft.irfft(np.fft.rfft(density) ** steps, size)
        losses = (np.arange(size) + size // 2) % size - size // 2
        keep = losses > 0

        def excess(e: float, k=keep, t=total, v=losses) -> float:
            gain = -np.expm1(np.minimum(e - v[k] * grid, 0))
            return float((t[k] * gain).sum()) - delta

        found.append(brentq(excess, 0, size // 2 * grid) if excess(0) > 0 else 0.0)
    return float(max(found))


# q, z, steps, delta, epsilon
PUBLISHED = [
    # Measured beforehand with dp-accounting alone.
    (64 / 6000, 1.0, 1000, 1e-5, 1.961),
    # Table of an unamplified Gaussian a pass (1, 5, 11 passes at multiplier 1).
    (1.0, 1.0, 1, 1e-5, 4.38),
    (1.0, 1.0, 5, 1e-5, 11.5),
    (1.0, 1.0, 11, 1e-5, 19.0),
    # d = 2^20, T = 50, full participation, continuous Gaussian.
    (1.0, 5.0, 50, 1e-5, 7.088),
    (1.0, 10.0, 50, 1e-5, 3.190),
]


@pytest.mark.parametrize(("q", "z", "steps", "delta", "epsilon"), PUBLISHED)
def test_known_figures_are_met(q, z, steps, delta, epsilon) -> None:
    found = epsilon_of([gaussian(q, z, steps)], delta=delta)
    if epsilon in (7.088, 3.190):  # those come from an RDP curve, which is above
        rdp = found.figures[RDP]
        assert rdp == pytest.approx(epsilon, rel=0.01)
        assert found.value < rdp
        return
    assert found.figures[PLD] == pytest.approx(epsilon, rel=0.004)
    assert found.figures[PRV] == pytest.approx(epsilon, abs=0.03, rel=0.004)


@pytest.mark.parametrize(("z", "steps"), [(0.7, 1), (1.0, 3), (2.0, 40), (5.0, 50), (30.0, 1000)])
def test_gaussians_equal_the_closed_form(z: float, steps: int) -> None:
    exact = gaussian_epsilon(z, steps, 1e-5)
    found = epsilon_of([gaussian(1.0, z, steps)], delta=1e-5)
    assert exact - 1e-3 <= found.figures[PLD] <= exact + 2e-3
    assert exact - 1e-3 <= found.figures[PRV] <= exact + 0.015
    assert exact < found.figures[RDP] < 1.4 * exact + 0.1


@pytest.mark.parametrize(
    ("q", "z", "steps", "delta"),
    [
        (0.01, 1.0, 1000, 1e-5),
        (64 / 6000, 1.0, 1000, 1e-5),
        (0.05, 1.5, 400, 1e-5),
        (0.02, 0.8, 200, 1e-6),
        (0.2, 3.0, 300, 1e-5),
    ],
)
def test_sampled_gaussians_equal_an_integral_of_our_own(q, z, steps, delta) -> None:
    slow = sampled_epsilon(q, z, steps, delta)
    found = epsilon_of([gaussian(q, z, steps)], delta=delta)
    assert found.figures[PLD] == pytest.approx(slow, abs=0.01, rel=0.005)
    assert found.figures[PRV] == pytest.approx(slow, abs=0.02, rel=0.005)
    assert found.value >= slow - 0.005


@pytest.mark.parametrize(
    ("epsilon", "q", "steps"),
    [(1.0, 0.01, 1000), (10.0, 0.01, 1000), (1.961, 64 / 6000, 1000), (3.0, 1.0, 20)],
)
def test_calibration_finds_the_least_noise_that_fits(epsilon, q, steps) -> None:
    noise = noise_multiplier_for(epsilon=epsilon, delta=1e-5, sampling_rate=q, steps=steps)
    assert epsilon_of([gaussian(q, noise, steps)], delta=1e-5).value <= epsilon
    assert epsilon_of([gaussian(q, 0.99 * noise, steps)], delta=1e-5).value > epsilon


def test_calibration_and_its_inverse_meet() -> None:
    noise = noise_multiplier_for(epsilon=1.961, delta=1e-5, sampling_rate=64 / 6000, steps=1000)
    assert noise == pytest.approx(1.0, abs=0.01)


def test_budget_that_no_noise_meets_is_refused_with_the_settings_to_change() -> None:
    with pytest.raises(ConfigError, match=r"raise epsilon, or lower sampling_rate"):
        noise_multiplier_for(epsilon=0.005, delta=1e-5, sampling_rate=1.0, steps=10**6)
    with pytest.raises(ValueError, match="epsilon > 0"):
        noise_multiplier_for(epsilon=0.0, delta=1e-5, sampling_rate=0.1, steps=1)


def test_different_events_compose() -> None:
    parts = [gaussian(0.02, 1.0, 100), gaussian(0.01, 2.0, 300), gaussian(1.0, 8.0, 2)]
    alone = [epsilon_of([each], delta=1e-5).value for each in parts]
    together = epsilon_of(parts, delta=1e-5)
    assert max(alone) < together.value < sum(alone)
    assert epsilon_of(list(reversed(parts)), delta=1e-5) == together


@settings(max_examples=8)
@given(
    st.sampled_from([0.005, 0.02, 1.0]), st.floats(0.8, 4.0), st.integers(1, 40), st.integers(1, 40)
)
def test_more_steps_never_cost_less_and_halves_cost_what_the_whole_does(q, z, a, b) -> None:
    whole = epsilon_of([gaussian(q, z, a + b)], delta=1e-5)
    halves = epsilon_of([gaussian(q, z, a), gaussian(q, z, b)], delta=1e-5)
    assert halves == whole
    assert epsilon_of([gaussian(q, z, a)], delta=1e-5).value <= whole.value + 1e-6


def test_nothing_spends_nothing() -> None:
    assert epsilon_of([], delta=1e-5).value == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, float("nan")])
def test_delta_outside_zero_and_one_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        epsilon_of([gaussian(0.1, 1.0, 1)], delta=delta)


def test_accountants_that_disagree_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    right = accounting._prv_epsilon
    monkeypatch.setattr(accounting, "_prv_epsilon", lambda *args: 0.9 * right(*args))
    with pytest.raises(AccountingError, match="two accountants disagree"):
        epsilon_of([gaussian(0.0123, 1.0, 777)], delta=1e-5)


def test_unknown_event_is_refused_rather_than_guessed() -> None:
    class Fancy:
        pass

    with pytest.raises(ValueError, match="known kind"):
        epsilon_of([Fancy()], delta=1e-5)  # type: ignore[list-item]


def test_almost_no_noise_costs_an_enormous_epsilon_in_little_time() -> None:
    assert epsilon_of([gaussian(0.5, 0.5, 2000)], delta=1e-5).value > 1500


def test_skellam_sums_cost_what_gaussians_of_the_variance_do_and_a_little_more() -> None:
    scale = 2.0**16
    event = SkellamSum(
        num_words=1 << 20, l2_sensitivity=scale, variance=(5 * scale) ** 2, releases=50
    )
    found = epsilon_of([event], delta=1e-5)
    exact = gaussian_epsilon(5.0, 50, 1e-5)
    assert exact < found.value < 1.12 * exact  # RDP is not tight, and the noise is not Gaussian
    coarse = SkellamSum(num_words=1 << 20, l2_sensitivity=16.0, variance=80.0**2, releases=50)
    assert epsilon_of([coarse], delta=1e-5).value > found.value


def test_skellam_and_gaussian_events_compose() -> None:
    skellam = SkellamSum(num_words=100, l2_sensitivity=1000.0, variance=2500.0**2, releases=2)
    both = epsilon_of([skellam, gaussian(0.01, 1.0, 100)], delta=1e-5).value
    assert both > epsilon_of([skellam], delta=1e-5).value
