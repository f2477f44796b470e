"""Thresholds, the policy floor, the choice of graph and the bounds against wrap-around."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from protocol.parameters import (
    CompleteGraph,
    choose,
    max_input,
    num_colluders,
    skellam_tail,
    threshold,
)
from protocol.regular_graph import RegularGraph


@pytest.mark.parametrize(
    ("n", "gamma", "c", "t"),
    [
        (5, 0.2, 1, 4),
        (10, 0.2, 2, 7),
        (16, 0.2, 4, 11),
        (32, 0.1, 4, 19),
        (64, 0.1, 7, 36),
        (64, 1 / 3, 22, 44),
        (128, 0.1, 13, 71),
    ],
)
def test_the_table_of_thresholds(n, gamma, c, t):
    assert num_colluders(n, gamma=gamma) == c
    assert threshold(n, c) == t
    assert choose(n, roster_size=n, gamma=gamma, delta=0.0) == CompleteGraph(
        num_clients=n, num_colluders=c, threshold=t
    )


@pytest.mark.parametrize(("roster", "c", "t"), [(10, 1, 6), (20, 2, 7), (50, 5, 8), (60, 6, 9)])
def test_colluders_are_counted_on_the_roster(roster, c, t):
    found = choose(10, roster_size=roster, gamma=0.1, delta=0.1)
    assert (found.num_colluders, found.threshold) == (c, t)


def test_cohorts_that_the_rosters_colluders_could_fill_are_refused():
    with pytest.raises(ValueError, match="fewer colluders"):
        choose(10, roster_size=70, gamma=0.1, delta=0.0)
    with pytest.raises(ValueError, match="roster_size >= num_clients"):
        choose(10, roster_size=9, gamma=0.1, delta=0.1)


@given(st.integers(5, 128), st.integers(1, 127))
def test_two_quorums_share_an_honest_site_and_one_site_less_would_not(n, c):
    try:
        t = threshold(n, c)
    except ValueError:
        smallest = (n + c) // 2 + 1
        assert smallest > n or smallest - c < 3
        return
    assert 2 * t - n > c
    assert 2 * (t - 1) - n <= c
    assert t - c >= 3


@pytest.mark.parametrize(("n", "c"), [(0, 1), (4, 1), (5, 2), (5, 0), (6, 3), (10, 9), (-5, 1)])
def test_cohorts_that_would_hide_too_little_are_refused(n, c):
    with pytest.raises(ValueError, match="expected"):
        threshold(n, c)


@pytest.mark.parametrize("n", [3, 4])
def test_three_or_four_sites_do_without_a_colluder_and_nothing_else(n):
    assert choose(n, roster_size=n, gamma=0.0, delta=0.0) == CompleteGraph(
        num_clients=n, num_colluders=0, threshold=3
    )
    for gamma in (0.01, 0.1, 0.3):
        with pytest.raises(ValueError, match="at least 5 clients"):
            choose(n, roster_size=n, gamma=gamma, delta=0.0)
    # Cohorts of larger rosters: somebody colludes, and may be in each.
    with pytest.raises(ValueError, match="at least 5 clients"):
        choose(n, roster_size=5, gamma=0.0, delta=0.0)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_sites_hide_nothing(n):
    with pytest.raises(ValueError, match="3 of which none works with the server"):
        threshold(n, 0)


@pytest.mark.parametrize(("n", "c", "t"), [(5, 1, 4), (6, 2, 5), (8, 4, 7)])
def test_the_floor_of_three_honest_inputs_is_exact(n, c, t):
    assert threshold(n, c) == t
    with pytest.raises(ValueError, match="honest"):
        threshold(n, c + 1 + (n + c) % 2)


def test_drop_outs_beyond_what_the_threshold_leaves_are_refused():
    assert choose(5, roster_size=5, gamma=0.2, delta=0.2).max_dropouts == 1
    with pytest.raises(ValueError, match="lower gamma or delta"):
        choose(5, roster_size=5, gamma=0.2, delta=0.21)


def test_decimal_fractions_are_read_as_decimals():
    assert num_colluders(10, gamma=0.3) == 3
    assert num_colluders(100, gamma=0.07) == 7
    assert 100 * 0.07 > 7
    for gamma in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="gamma"):
            num_colluders(10, gamma=gamma)


def test_the_weaker_graph_is_only_chosen_when_it_is_allowed_and_needed():
    with pytest.raises(ValueError, match="k-regular"):
        choose(129, roster_size=129, gamma=0.1, delta=0.1)
    assert isinstance(
        choose(128, roster_size=128, gamma=0.1, delta=0.1, allow_regular=True), CompleteGraph
    )
    chosen = choose(1000, roster_size=1000, gamma=0.1, delta=0.1, allow_regular=True)
    assert isinstance(chosen, RegularGraph)
    assert (chosen.degree, chosen.threshold, chosen.quorum) == (126, 92, 900)
    assert chosen.log2_insecure <= -80


@pytest.mark.parametrize("n", [129, 200, 500])
@pytest.mark.parametrize("delta", [0.0, 0.05, 0.1])
def test_a_regular_graph_stands_as_many_drop_outs_as_are_asked_for_and_no_more(n, delta):
    chosen = choose(n, roster_size=n, gamma=0.1, delta=delta, allow_regular=True)
    assert isinstance(chosen, RegularGraph)
    assert chosen.num_colluders == math.ceil(n / 10)
    assert chosen.quorum == n - math.ceil(delta * n)
    assert chosen.quorum >= threshold(n, chosen.num_colluders)


def test_a_regular_graph_is_refused_where_two_quorums_would_share_too_few():
    with pytest.raises(ValueError, match="quorum <= n - dropouts, got 190 > 200 - 20"):
        choose(200, roster_size=890, gamma=0.2, delta=0.1, allow_regular=True)


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("n", [5, 64, 128])
@pytest.mark.parametrize("noise", [0, 1000])
def test_max_input_is_exact(word_bits, n, noise):
    x = max_input(n, word_bits=word_bits, noise_bound=noise)
    assert n * x + noise < 2 ** (word_bits - 1) <= n * (x + 1) + noise


def test_max_input_refuses_words_without_room():
    with pytest.raises(ValueError, match="wider"):
        max_input(40_000, word_bits=16)
    with pytest.raises(ValueError, match="wider"):
        max_input(5, word_bits=16, noise_bound=40_000)
    with pytest.raises(ValueError, match="num_clients"):
        max_input(0, word_bits=16)


@given(
    st.floats(1e-3, 1e6),
    st.sampled_from([1, 1000, 10**7]),
    st.sampled_from([-10.0, -20.0, -40.0]),
)
def test_skellam_tail_covers_the_exact_tail_and_is_not_far_above_it(variance, words, log2_p):
    x = skellam_tail(variance, num_words=words, log2_probability=log2_p)
    # Only the first thousands matter: the masses fall faster than geometrically.
    support = np.arange(x, x + 60 + int(math.sqrt(variance)))
    exact = 2 * words * stats.skellam.pmf(support, variance / 2, variance / 2).sum()
    assert exact <= 2.0**log2_p * (1 + 1e-6)
    gaussian = math.sqrt(2 * variance * math.log(2 * words / 2.0**log2_p))
    assert x >= math.floor(gaussian)
    if variance > 1e4:
        assert x <= 1.02 * gaussian + 1


@pytest.mark.parametrize("variance", [0.05, 1.0, 5.0])
def test_the_gaussian_tail_would_be_too_small_for_skellam_noise(variance):
    gaussian = math.ceil(math.sqrt(2 * variance * math.log(2 * 1000 * 2.0**40)))
    support = np.arange(gaussian, gaussian + 300)
    exact = 2 * 1000 * stats.skellam.pmf(support, variance / 2, variance / 2).sum()
    assert exact > 2.0**-40
    assert skellam_tail(variance, num_words=1000) > gaussian


def test_skellam_tail_edges():
    assert skellam_tail(0.0, num_words=10) == 0
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="variance"):
            skellam_tail(bad, num_words=10)
    with pytest.raises(ValueError, match="num_words"):
        skellam_tail(1.0, num_words=0)
    with pytest.raises(ValueError, match="num_words"):
        skellam_tail(1.0, num_words=1, log2_probability=0.0)
