from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from attacks.epsilon.ceilings import (
    advantage_ceiling,
    auc_ceiling,
    exceeds_ceiling,
    tpr_ceiling,
)
from attacks.epsilon.independent import epsilon_from_counts, runs_for_epsilon
from attacks.epsilon.trade_off import (
    approximate_dp,
    check_trade_off,
    delta_of_gaussian,
    from_profile,
    gaussian,
    mu_of_gaussian,
)
from attacks.statistics.roc import roc


@given(mu=st.floats(0, 6), alpha=st.floats(1e-6, 1))
def test_the_gaussian_curve_is_that_of_the_best_test(mu: float, alpha: float) -> None:
    # Reject N(0, 1) above z: type I = 1 - Phi(z), type II = Phi(z - mu).
    z = norm.isf(alpha)
    assert gaussian(mu)(alpha) == pytest.approx(norm.cdf(z - mu), abs=1e-12)


@pytest.mark.parametrize(
    "curve",
    [
        gaussian(0.0),
        gaussian(1.3),
        gaussian(5.0),
        approximate_dp(0.0, delta=0.0),
        approximate_dp(1.0, delta=0.01),
        from_profile([(0.1, 0.3), (1.0, 0.05), (3.0, 1e-4)]),
    ],
)
def test_every_curve_offered_is_a_symmetric_trade_off_function(curve) -> None:
    check_trade_off(curve)


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (lambda a: math.nan, "NaN"),
        (lambda a: -0.1, "negative"),
        (lambda a: 1.0, "above 1 - a"),
        (lambda a: 0.1 * a * (1 - a), "increases"),
        (lambda a: min(1 - a, 0.5) if a < 0.5 else 0.0, "convex"),
        (lambda a: max(0.0, 1 - 2 * a), "symmetric"),
    ],
)
def test_what_is_no_trade_off_function_is_refused(curve, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_trade_off(curve)


@pytest.mark.parametrize("profile", [[], [(-1.0, 0.0)], [(1.0, 2.0)], [(math.nan, 0.1)]])
def test_a_profile_that_is_none_is_refused(profile) -> None:
    with pytest.raises(ValueError, match="expected"):
        from_profile(profile)


def test_many_pairs_of_the_gaussian_profile_rebuild_its_curve() -> None:
    mu = 1.2
    profile = [(e, delta_of_gaussian(mu, epsilon=e)) for e in np.linspace(0, 8, 400)]
    rebuilt, exact = from_profile(profile), gaussian(mu)
    for alpha in np.linspace(0.001, 0.999, 57):
        assert rebuilt(alpha) == pytest.approx(exact(alpha), abs=1e-3)
        assert rebuilt(alpha) <= exact(alpha) + 1e-12
    single = from_profile(profile[200:201])
    assert single(0.1) < exact(0.1) - 0.01


@pytest.mark.parametrize("mu", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_delta_is_the_hockey_stick_of_two_normals(mu: float, epsilon: float) -> None:
    grid = np.linspace(-12, 16, 400001)
    excess = np.maximum(norm.pdf(grid, mu) - math.exp(epsilon) * norm.pdf(grid), 0)
    assert delta_of_gaussian(mu, epsilon=epsilon) == pytest.approx(
        np.trapezoid(excess, grid), rel=1e-6, abs=1e-12
    )


@given(epsilon=st.floats(0, 60), delta=st.sampled_from([1e-9, 1e-5, 0.1]))
def test_mu_and_delta_are_each_others_inverse(epsilon: float, delta: float) -> None:
    mu = mu_of_gaussian(epsilon, delta=delta)
    assert delta_of_gaussian(mu, epsilon=epsilon) == pytest.approx(delta, rel=1e-5)


def test_constants_without_a_mechanism_are_refused() -> None:
    for epsilon, delta in ((-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0), (math.inf, 1e-5)):
        with pytest.raises(ValueError, match="expected epsilon"):
            mu_of_gaussian(epsilon, delta=delta)
    with pytest.raises(ValueError, match="mu"):
        gaussian(-1.0)


@pytest.mark.parametrize(
    ("epsilon", "tpr", "area", "gaussian_area"),
    [
        (1, 0.027, 0.731, 0.575),
        (2, 0.074, 0.881, 0.639),
        (4, 0.546, 0.982, 0.743),
        (8, 1.0, 1.0, 0.881),
    ],
)
def test_dp_ceilings_of_the_reference(
    epsilon: int, tpr: float, area: float, gaussian_area: float
) -> None:
    curve = approximate_dp(epsilon, delta=1e-5)
    assert tpr_ceiling(0.01, trade_off=curve) == pytest.approx(tpr, abs=5e-4)
    assert auc_ceiling(curve) == pytest.approx(area, abs=6e-4)
    mu = mu_of_gaussian(epsilon, delta=1e-5)
    assert auc_ceiling(gaussian(mu)) == pytest.approx(gaussian_area, abs=5e-4)
    assert auc_ceiling(gaussian(mu)) == pytest.approx(norm.cdf(mu / math.sqrt(2)), abs=1e-8)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("delta", [0.0, 0.01])
def test_the_advantage_ceiling_is_the_largest_gap_of_the_curve(
    epsilon: float, delta: float
) -> None:
    curve = approximate_dp(epsilon, delta=delta)
    gaps = [1 - curve(a) - a for a in np.linspace(0, 1, 20001)]
    assert advantage_ceiling(epsilon, delta=delta) == pytest.approx(max(gaps), abs=1e-3)
    with pytest.raises(ValueError, match="expected epsilon"):
        advantage_ceiling(-1.0, delta=delta)


def test_an_honest_mechanism_rarely_exceeds_its_ceiling_and_a_leaky_one_does() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(400) < 200
    curve = gaussian(1.0)
    alarms = [
        exceeds_ceiling(roc(rng.normal(0, 1, 400) + members, membership=members), trade_off=curve)
        for _ in range(200)
    ]
    assert np.mean(alarms) <= 0.05
    leaky = roc(rng.normal(0, 1, 400) + 3 * members, membership=members)
    assert exceeds_ceiling(leaky, trade_off=curve)
    with pytest.raises(ValueError, match="confidence"):
        exceeds_ceiling(leaky, trade_off=curve, confidence=0.0)
    with pytest.raises(ValueError, match="fpr"):
        tpr_ceiling(1.5, trade_off=curve)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(100, 3.28), (200, 3.98), (500, 4.91), (1000, 5.60), (5000, 7.21), (10000, 7.90)],
)
def test_what_a_perfect_attack_proves_with_independent_runs(n: int, expected: float) -> None:
    found = epsilon_from_counts(
        false_positives=0, num_out=n, false_negatives=0, num_in=n, delta=0.0
    )
    assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("epsilon", "n"), [(1, 12), (2, 30), (3, 76), (4, 204), (5, 550), (6, 1491), (8, 10999)]
)
def test_runs_needed_to_prove_an_epsilon(epsilon: int, n: int) -> None:
    assert runs_for_epsilon(epsilon) == n


def test_independent_runs_keep_the_confidence_on_randomised_response() -> None:
    epsilon, n = 1.5, 200
    rng = np.random.default_rng(1)
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    above = [
        epsilon_from_counts(
            false_positives=int(rng.binomial(n, 1 - truth)),
            num_out=n,
            false_negatives=int(rng.binomial(n, 1 - truth)),
            num_in=n,
            delta=0.0,
        )
        > epsilon
        for _ in range(2000)
    ]
    assert np.mean(above) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)


def test_an_attack_at_chance_proves_nothing() -> None:
    found = epsilon_from_counts(
        false_positives=50, num_out=100, false_negatives=50, num_in=100, delta=0.0
    )
    assert found == 0.0
    with pytest.raises(ValueError, match="delta"):
        epsilon_from_counts(false_positives=0, num_out=10, false_negatives=0, num_in=10, delta=1.0)
