"""Steinke and f-DP bounds: slow versions, the reference's figures, and false alarms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from attacks.epsilon import f_dp, one_run
from attacks.epsilon.guesses import Guesses, GuessPlan, count_guesses
from attacks.epsilon.trade_off import approximate_dp, gaussian, mu_of_gaussian


def all_right(m: int, r: int | None = None) -> Guesses:
    r = m if r is None else r
    return Guesses(num_canaries=m, num_guesses=r, num_correct=r)


@given(
    m=st.integers(1, 14),
    data=st.data(),
    epsilon=st.floats(0, 4),
    delta=st.sampled_from([0.0, 1e-5, 1e-2]),
)
def test_the_p_value_is_that_of_the_theorem(m: int, data, epsilon: float, delta: float) -> None:
    r = data.draw(st.integers(1, m))
    v = data.draw(st.integers(0, r))
    q = Fraction(math.exp(epsilon) / (1 + math.exp(epsilon)))

    def pmf(k: int) -> Fraction:
        return math.comb(r, k) * q**k * (1 - q) ** (r - k)

    tail = sum(pmf(k) for k in range(v, r + 1))
    worst = max(
        (sum(pmf(k) for k in range(v - i, v)) / i for i in range(1, v + 1)), default=Fraction(0)
    )
    slow = min(1.0, float(tail + 2 * m * Fraction(delta) * worst))
    guesses = Guesses(num_canaries=m, num_guesses=r, num_correct=v)
    assert one_run.p_value(guesses, epsilon=epsilon, delta=delta) == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize(
    ("m", "expected"),
    [
        (20, 1.82),
        (50, 2.78),
        (100, 3.49),
        (200, 4.19),
        (500, 5.10),
        (1000, 5.78),
        (2000, 6.45),
        (5000, 7.28),
        (10000, 7.83),
    ],
)
def test_steinke_ceilings_of_the_reference(m: int, expected: float) -> None:
    found = one_run.epsilon_bound(all_right(m), delta=1e-5, significance=0.05)
    assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("m", "expected"), [(100, 8.2), (500, 11.1), (1000, 12.3)])
def test_f_dp_ceilings_of_the_reference(m: int, expected: float) -> None:
    found = f_dp.epsilon_bound(all_right(m), family=f_dp.gaussian_family(1e-5), significance=0.05)
    assert found == pytest.approx(expected, abs=0.05)


def test_the_bound_is_where_the_p_value_crosses_the_significance() -> None:
    guesses = Guesses(num_canaries=200, num_guesses=100, num_correct=85)
    found = one_run.epsilon_bound(guesses, delta=1e-5, significance=0.05)
    assert one_run.p_value(guesses, epsilon=found - 1e-6, delta=1e-5) < 0.05
    assert one_run.p_value(guesses, epsilon=found + 1e-6, delta=1e-5) > 0.05
    nothing = Guesses(num_canaries=200, num_guesses=100, num_correct=52)
    assert one_run.epsilon_bound(nothing, delta=1e-5, significance=0.05) == 0


def slow_recursion(guesses: Guesses, mu: float, significance: float) -> bool:
    """h and r as arrays and the Gaussian blow-up written out, as the paper prints them."""
    from scipy.stats import norm

    m, n, v = guesses.num_canaries, guesses.num_guesses, guesses.num_correct
    h, r = [0.0] * (v + 1), [0.0] * (v + 1)
    r[v], h[v] = significance * v / m, significance * (n - v) / m
    for i in reversed(range(v)):
        inverse = norm.cdf(norm.ppf(r[i + 1]) - mu) if r[i + 1] < 1 else 1.0
        h[i] = max(h[i + 1], inverse)
        r[i] = r[i + 1] + i / (n - i) * (h[i] - h[i + 1])
    return r[0] + h[0] > n / m


@given(
    m=st.integers(2, 60), data=st.data(), mu=st.floats(0.0, 4), significance=st.floats(0.001, 0.5)
)
def test_the_recursion_is_that_of_the_paper(m: int, data, mu: float, significance: float) -> None:
    n = data.draw(st.integers(1, m))
    v = data.draw(st.integers(0, n))
    guesses = Guesses(num_canaries=m, num_guesses=n, num_correct=v)
    fast = f_dp.rejects(guesses, trade_off=gaussian(mu), significance=significance)
    assert fast == slow_recursion(guesses, mu, significance)


def test_without_any_leak_the_recursion_is_no_sharper_than_the_binomial_tail() -> None:
    # With f(a) = 1 - a guesses are coin flips, whose exact test is the binomial one.
    for v in range(51):
        guesses = Guesses(num_canaries=50, num_guesses=50, num_correct=v)
        p = f_dp.smallest_significance(guesses, trade_off=gaussian(0.0))
        assert p >= binom.sf(v - 1, 50, 0.5) * (1 - 1e-5)


def test_the_smallest_significance_is_where_rejection_starts() -> None:
    guesses = Guesses(num_canaries=200, num_guesses=60, num_correct=52)
    curve = gaussian(0.3)
    p = f_dp.smallest_significance(guesses, trade_off=curve)
    assert 1e-6 < p < 0.5
    assert f_dp.rejects(guesses, trade_off=curve, significance=p * 1.00001)
    assert not f_dp.rejects(guesses, trade_off=curve, significance=p * 0.9999)
    weak = Guesses(num_canaries=200, num_guesses=60, num_correct=10)
    assert f_dp.smallest_significance(weak, trade_off=curve) > 0.9


def test_more_correct_guesses_never_lower_either_bound() -> None:
    family = f_dp.gaussian_family(1e-5)
    values = []
    for v in range(0, 51, 5):
        g = Guesses(num_canaries=100, num_guesses=50, num_correct=v)
        values.append(
            (
                one_run.epsilon_bound(g, delta=1e-5, significance=0.05),
                f_dp.epsilon_bound(g, family=family, significance=0.05),
            )
        )
    assert (np.diff(values, axis=0) >= 0).all()


def play_gaussian(rng: np.random.Generator, m: int, mu: float, plan: GuessPlan) -> Guesses:
    """The optimal attacker on m independent Gaussian mechanisms: the score is the output."""
    included = rng.random(m) < 0.5
    scores = mu * included + rng.normal(0, 1, m)
    return count_guesses(scores, inclusion=included, plan=plan, rng=rng)


def test_a_sigma_ten_times_too_small_is_caught_by_f_dp_and_not_by_steinke() -> None:
    # The claim is epsilon 4.91; the mechanism has ten times its mu.
    delta, claim = 1e-5, 4.91
    mu = mu_of_gaussian(claim, delta=delta)
    rng = np.random.default_rng(0)
    plan = GuessPlan(num_included=150, num_left_out=150)
    wrong = play_gaussian(rng, 300, 10 * mu, plan)
    steinke = one_run.epsilon_bound(wrong, delta=delta, significance=0.05)
    sharper = f_dp.epsilon_bound(wrong, family=f_dp.gaussian_family(delta), significance=0.05)
    assert steinke < claim < sharper
    assert f_dp.rejects(wrong, trade_off=gaussian(mu), significance=0.05)
    honest = play_gaussian(rng, 300, mu, plan)
    assert not f_dp.rejects(honest, trade_off=gaussian(mu), significance=0.05)


def test_the_bug_catch_figures_of_the_reference() -> None:
    guesses = all_right(1000, 250)
    steinke = one_run.epsilon_bound(guesses, delta=1e-5, significance=0.05)
    sharper = f_dp.epsilon_bound(guesses, family=f_dp.gaussian_family(1e-5), significance=0.05)
    assert (steinke, sharper) == pytest.approx((4.39, 7.86), abs=0.005)


@pytest.mark.parametrize(
    ("epsilon", "num_runs"),
    [
        (1.0, 500),
        *(pytest.param(epsilon, 2000, marks=pytest.mark.slow) for epsilon in (0.0, 1.0, 4.0)),
    ],
)
def test_false_alarms_stay_below_the_significance(epsilon: float, num_runs: int) -> None:
    """Honest mechanisms, each exactly as private as claimed."""
    delta, m, plan = 1e-5, 400, GuessPlan(num_included=100, num_left_out=100)
    mu = mu_of_gaussian(epsilon, delta=delta) if epsilon else 0.0
    rng = np.random.default_rng(int(epsilon) + 10)
    steinke, sharper = [], []
    for _ in range(num_runs):
        guesses = play_gaussian(rng, m, mu, plan)
        steinke.append(one_run.p_value(guesses, epsilon=epsilon, delta=delta) < 0.05)
        sharper.append(f_dp.rejects(guesses, trade_off=gaussian(mu), significance=0.05))
    error = math.sqrt(0.05 * 0.95 / num_runs)
    assert np.mean(steinke) <= 0.05 + 2 * error
    assert np.mean(sharper) <= 0.05 + 2 * error


@pytest.mark.parametrize("num_runs", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_false_alarms_on_the_weakest_mechanism_that_epsilon_delta_allows(num_runs: int) -> None:
    """Randomised response that fails open with probability delta: f-DP's own extreme case."""
    epsilon, delta, m = 1.0, 0.02, 200
    rng = np.random.default_rng(3)
    plan = GuessPlan(num_included=20, num_left_out=20)
    steinke, sharper = [], []
    curve = approximate_dp(epsilon, delta=delta)
    for _ in range(num_runs):
        included = rng.random(m) < 0.5
        told = np.where(rng.random(m) < math.e / (1 + math.e), included, ~included)
        certain = rng.random(m) < delta
        scores = np.where(certain, 4.0 * included - 2.0, 2.0 * told - 1.0)
        guesses = count_guesses(scores, inclusion=included, plan=plan, rng=rng)
        steinke.append(one_run.p_value(guesses, epsilon=epsilon, delta=delta) < 0.05)
        sharper.append(f_dp.rejects(guesses, trade_off=curve, significance=0.05))
    error = math.sqrt(0.05 * 0.95 / num_runs)
    assert np.mean(steinke) <= 0.05 + 2 * error
    assert np.mean(sharper) <= 0.05 + 2 * error


@pytest.mark.parametrize(
    ("epsilon", "m", "expected"),
    [
        (2, 1000, (0.65, 0.99)),
        pytest.param(1, 1000, (0.22, 0.33), marks=pytest.mark.slow),
        pytest.param(4, 1000, (1.55, 2.32), marks=pytest.mark.slow),
    ],
)
def test_what_an_optimal_attacker_attains_on_a_gaussian_mechanism(
    epsilon: int, m: int, expected: tuple[float, float]
) -> None:
    """Mean bounds of the best budget of a small grid; the reference's figures within a quarter."""
    delta = 1e-5
    mu = mu_of_gaussian(epsilon, delta=delta)
    family = f_dp.gaussian_family(delta)
    means = []
    for budget in (m // 10, m // 5, m // 3, m // 2):
        rng = np.random.default_rng(epsilon)
        plan = GuessPlan(num_included=budget // 2, num_left_out=budget // 2)
        played = [play_gaussian(rng, m, mu, plan) for _ in range(40)]
        means.append(
            (
                np.mean([one_run.epsilon_bound(g, delta=delta, significance=0.05) for g in played]),
                np.mean([f_dp.epsilon_bound(g, family=family, significance=0.05) for g in played]),
            )
        )
    best = np.max(means, axis=0)
    assert (best <= epsilon).all()
    np.testing.assert_allclose(best, expected, rtol=0.25, atol=0.05)
