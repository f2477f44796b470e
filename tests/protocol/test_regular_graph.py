"""The k-regular search: exact tails, exhaustive graphs, and the table of Bell et al.'s search."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.graph import Neighbourhoods
from protocol.regular_graph import (
    log2_disconnected,
    log2_tail_above,
    log2_tail_below,
    search,
)


def exact_tail_above(bound: int, *, population: int, marked: int, draws: int) -> Fraction:
    """P[X > bound] from integer binomials, nothing rounded."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, draws - x)
        for x in range(max(bound + 1, 0), draws + 1)
    )
    return Fraction(ways, math.comb(population, draws))


def log2_fraction(value: Fraction) -> float:
    """log2 without going through a float64 that underflows."""
    if value == 0:
        return -math.inf
    shift = value.denominator.bit_length() - value.numerator.bit_length()
    return math.log2(value * Fraction(2) ** shift) - shift


@given(st.data())
def test_tails_equal_exact_fractions(data):
    population = data.draw(st.integers(1, 400))
    marked = data.draw(st.integers(0, population))
    draws = data.draw(st.integers(0, population))
    bound = data.draw(st.integers(-1, draws + 1))
    arguments = {"population": population, "marked": marked, "draws": draws}
    above = log2_fraction(exact_tail_above(bound, **arguments))
    assert log2_tail_above(bound, **arguments) == pytest.approx(above, abs=1e-9)
    below = log2_fraction(1 - exact_tail_above(bound - 1, **arguments))
    assert log2_tail_below(bound, **arguments) == pytest.approx(below, abs=1e-9)


@pytest.mark.parametrize(
    ("gamma", "delta", "sigma", "n", "k", "t"),
    [
        (0.1, 0.1, 40, 100, 32, 22),
        (0.1, 0.1, 40, 200, 56, 39),
        (0.1, 0.1, 40, 500, 82, 57),
        (0.1, 0.1, 40, 1000, 96, 67),
        (0.1, 0.1, 40, 10_000, 122, 85),
        (0.05, 0.05, 40, 1000, 52, 37),
        (0.2, 0.2, 40, 1000, 302, 206),
        (0.1, 0.1, 80, 1000, 120, 87),
    ],
)
def test_semi_malicious_parameters(gamma, delta, sigma, n, k, t):
    found = search(n, gamma=gamma, delta=delta, sigma=sigma)
    assert (found.degree, found.threshold) == (k, t)
    assert found.log2_insecure <= -sigma
    assert found.log2_failure <= -20


@pytest.mark.parametrize(("n", "k", "t"), [(100, 22, 11), (1000, 48, 27), (10_000, 54, 31)])
def test_semi_honest_parameters(n, k, t):
    found = search(n, gamma=0.1, delta=0.1, semi_malicious=False)
    assert (found.degree, found.threshold) == (k, t)


@pytest.mark.parametrize(("n", "k", "t"), [(200, 56, 39), (1000, 96, 67)])
def test_found_parameters_hold_with_exact_fractions_and_two_neighbours_less_do_not(n, k, t):
    def secure(degree: int) -> bool:
        """Conditions (i) to (iii) from integer binomials alone."""
        a = s = n // 10
        pairs = Fraction(n * (n - degree - 1), 2)
        split = pairs * Fraction(math.comb(a + s, degree), math.comb(n, degree))
        if split > Fraction(1, 2**41):
            return False
        tails = [
            exact_tail_above(x, population=n - 1, marked=a, draws=degree) for x in range(degree)
        ]
        t1 = next(x for x in range(degree) if tails[x] <= Fraction(1, 2**41 * n))
        lost = [
            1 - exact_tail_above(x - 1, population=n - 1, marked=n - 1 - s, draws=degree)
            for x in range(degree + 1)
        ]
        t2 = max(x for x in range(degree + 1) if lost[x] <= Fraction(1, 2**20 * n))
        return (t1 + degree) // 2 < t2 and (degree != k or (t1 + degree) // 2 + 1 == t)

    assert secure(k)
    assert not secure(k - 2)


def test_colluders_are_counted_among_those_whom_the_server_leaves_in():
    """It leaves s honest sites out before the graph is drawn, which are not drawn then."""
    n, a, s = 500, 50, 50
    late = search(n, gamma=0.1, delta=0.1, sigma=80, drawn_late=True)
    early = search(n, gamma=0.1, delta=0.1, sigma=80)
    assert (late.degree, early.degree, late.quorum) == (102, 98, n - s)
    for graph in (late, early):
        # The most colluding neighbours with which t is still out of the reach of half the others.
        t1 = 2 * graph.threshold - 1 - graph.degree
        tail = exact_tail_above(t1, population=n - s - 1, marked=a, draws=graph.degree)
        assert (tail * n <= Fraction(1, 2**81)) == (graph is late)


@pytest.mark.parametrize(("n", "k", "removed"), [(10, 4, 4), (10, 4, 5), (11, 2, 3), (12, 6, 7)])
def test_the_connectivity_bound_holds_over_all_sets_of_removed_sites(n, k, removed):
    graph = Neighbourhoods([f"{i:02}" for i in range(n)], degree=k, h1=b"order")
    members = [f"{i:02}" for i in range(n)]
    broken = total = 0
    for gone in itertools.combinations(members, removed):
        left = set(members) - set(gone)
        seen, todo = set(), [min(left)]
        while todo:
            u = todo.pop()
            if u not in seen:
                seen.add(u)
                todo.extend(v for v in graph.of(u) if v in left)
        broken += seen != left
        total += 1
    assert 0 < broken / total <= 2 ** log2_disconnected(n, degree=k, removed=removed)


def test_a_graph_cannot_fall_apart_when_fewer_than_k_sites_go():
    assert log2_disconnected(100, degree=22, removed=20) == -math.inf


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"gamma": 0.5, "delta": 0.3}, "complete graph"),
        ({"gamma": -0.1, "delta": 0.1}, "gamma"),
        ({"gamma": 0.1, "delta": 1.0}, "delta"),
        ({"gamma": 0.1, "delta": math.nan}, "delta"),
        ({"gamma": 0.1, "delta": 0.1, "sigma": 0}, "sigma"),
    ],
)
def test_meaningless_or_impossible_demands_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        search(200, **arguments)
    with pytest.raises(ValueError, match="clients"):
        search(2, gamma=0.1, delta=0.1)
