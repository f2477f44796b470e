from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.epsilon.guesses import Guesses, GuessPlan, count_guesses
from attacks.epsilon.lower_bound import (
    Method,
    check_claim,
    epsilon_lower_bound,
)
from attacks.epsilon.one_run import p_value
from attacks.epsilon.trade_off import approximate_dp, gaussian, mu_of_gaussian


@given(m=st.integers(2, 40), data=st.data(), seed=st.integers(0, 10**6))
def test_guesses_are_the_highest_and_the_lowest_scores(m: int, data, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(m).astype(float)
    included = rng.random(m) < 0.5
    if included.all() or not included.any():
        included[0] = not included[0]
    top = data.draw(st.integers(0, m))
    bottom = data.draw(st.integers(0 if top else 1, m - top))
    plan = GuessPlan(num_included=top, num_left_out=bottom)
    right = sum(bool(included[i]) for i in range(m) if scores[i] >= m - top)
    right += sum(not included[i] for i in range(m) if scores[i] < bottom)
    found = count_guesses(scores, inclusion=included, plan=plan, rng=rng)
    assert (found.num_canaries, found.num_guesses, found.num_correct) == (m, top + bottom, right)


def test_ties_are_broken_without_a_look_at_the_order_or_the_inclusion() -> None:
    # Included canaries first, all scores equal: a stable sort would get every guess right.
    included = np.arange(200) < 100
    plan = GuessPlan(num_included=100, num_left_out=100)
    right = [
        count_guesses(
            np.zeros(200), inclusion=included, plan=plan, rng=np.random.default_rng(seed)
        ).num_correct
        for seed in range(100)
    ]
    # Swapping one pair changes two guesses: a hypergeometric count, sd about 7 doubled.
    assert abs(np.mean(right) - 100) < 3 * 7.1 / np.sqrt(100) * 2


def test_an_inclusion_that_was_not_drawn_by_coins_is_refused(rng: np.random.Generator) -> None:
    plan = GuessPlan(num_included=5, num_left_out=5)
    with pytest.raises(ValueError, match="5 of 200 canaries"):
        count_guesses(np.arange(200.0), inclusion=np.arange(200) < 5, plan=plan, rng=rng)
    with pytest.raises(ValueError, match="10 guesses on 9"):
        count_guesses(np.arange(9.0), inclusion=np.arange(9) < 5, plan=plan, rng=rng)
    with pytest.raises(ValueError, match="NaN"):
        count_guesses(np.full(20, np.nan), inclusion=np.arange(20) < 9, plan=plan, rng=rng)


@pytest.mark.parametrize(("top", "bottom"), [(-1, 3), (3, -1), (0, 0)])
def test_a_plan_makes_at_least_one_guess(top: int, bottom: int) -> None:
    with pytest.raises(ValueError, match="one guess at least"):
        GuessPlan(num_included=top, num_left_out=bottom)


@pytest.mark.parametrize(("m", "r", "v"), [(3, 4, 1), (4, 3, 4), (3, 0, 0), (3, 2, -1)])
def test_counts_that_contradict_each_other_are_refused(m: int, r: int, v: int) -> None:
    with pytest.raises(ValueError, match=r"num_correct|one guess"):
        Guesses(num_canaries=m, num_guesses=r, num_correct=v)


PLANS = [GuessPlan(num_included=k, num_left_out=k) for k in (10, 25, 50, 100, 200)]


EVERY = [GuessPlan(num_included=k, num_left_out=0) for k in range(5, 200, 20)]


def false_alarms(num_runs: int, method: Method) -> tuple[float, float]:
    """On coin flips, at a nominal 5 %: with the correction, and of the uncorrected maximum."""
    rng = np.random.default_rng(1)
    corrected, uncorrected = [], []
    for _ in range(num_runs):
        included = rng.random(400) < 0.5
        scores = rng.normal(0, 1, 400)
        bound = epsilon_lower_bound(
            scores, inclusion=included, plans=EVERY, delta=1e-5, rng=rng, method=method
        )
        corrected.append(bound.value > 0)
        single = [count_guesses(scores, inclusion=included, plan=plan, rng=rng) for plan in EVERY]
        uncorrected.append(any(p_value(g, epsilon=0.0, delta=1e-5) < 0.05 for g in single))
    return float(np.mean(corrected)), float(np.mean(uncorrected))


@pytest.mark.long
@pytest.mark.parametrize("method", list(Method))
def test_a_grid_of_budgets_keeps_the_false_alarm_and_its_maximum_does_not(method: Method) -> None:
    corrected, uncorrected = false_alarms(150, method)
    assert corrected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)
    assert uncorrected > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("method", list(Method))
def test_a_grid_of_budgets_keeps_the_false_alarm_over_two_thousand_runs(method: Method) -> None:
    corrected, uncorrected = false_alarms(2000, method)
    assert corrected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000)
    assert uncorrected > 0.12


def test_the_bound_says_what_it_could_have_said_and_what_it_paid(rng: np.random.Generator) -> None:
    included = rng.random(400) < 0.5
    scores = 20.0 * included + rng.normal(0, 1, 400)
    found = epsilon_lower_bound(
        scores, inclusion=included, plans=PLANS, delta=1e-5, rng=rng, significance=0.05
    )
    assert found.num_plans == 5
    assert found.guesses.num_correct == found.guesses.num_guesses
    assert 0 < found.value <= found.ceiling
    alone = epsilon_lower_bound(scores, inclusion=included, plans=PLANS[:1], delta=1e-5, rng=rng)
    assert alone.value == alone.ceiling
    assert alone.guesses.num_guesses == 20
    noise = epsilon_lower_bound(
        rng.normal(0, 1, 400), inclusion=included, plans=PLANS, delta=1e-5, rng=rng
    )
    assert noise.value < 0.5 < noise.ceiling


def test_a_claim_is_contradicted_passed_or_out_of_reach(rng: np.random.Generator) -> None:
    included = rng.random(300) < 0.5
    perfect = 20.0 * included + rng.normal(0, 1, 300)
    plans = [GuessPlan(num_included=100, num_left_out=100)]
    claim = gaussian(mu_of_gaussian(4.91, delta=1e-5))
    caught = check_claim(perfect, inclusion=included, plans=plans, trade_off=claim, rng=rng)
    assert caught.contradicted
    assert caught.can_contradict
    assert caught.p_value < 1e-3
    blind = check_claim(
        rng.normal(0, 1, 300), inclusion=included, plans=plans, trade_off=claim, rng=rng
    )
    assert not blind.contradicted
    assert blind.can_contradict
    assert blind.p_value > 0.05
    # 300 canaries can never contradict pure (15, 1e-5)-DP: that is inconclusive, not a pass.
    far = approximate_dp(15.0, delta=1e-5)
    inconclusive = check_claim(perfect, inclusion=included, plans=plans, trade_off=far, rng=rng)
    assert not inconclusive.contradicted
    assert not inconclusive.can_contradict


def test_a_bound_without_a_plan_or_with_wrong_constants_is_refused(rng) -> None:
    arguments = {"inclusion": np.arange(20) < 9, "rng": rng}
    plan = [GuessPlan(num_included=2, num_left_out=2)]
    for wrong, says in (
        ({"plans": [], "delta": 1e-5}, "fixed before"),
        ({"plans": plan, "delta": 0.0}, "delta"),
        ({"plans": plan, "delta": 1e-5, "significance": 1.0}, "significance"),
    ):
        with pytest.raises(ValueError, match=says):
            epsilon_lower_bound(np.arange(20.0), **arguments, **wrong)
    with pytest.raises(ValueError, match="trade_off"):
        check_claim(np.arange(20.0), plans=plan, trade_off=lambda a: 1.0, **arguments)
