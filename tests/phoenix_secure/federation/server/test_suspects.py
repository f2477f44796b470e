"""The search for a group that spoils sums: whom it asks, what it concludes, what it never shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.suspects import SuspectSearch, WrongSum
from protocol.parameters import MIN_HONEST

# Whether the sum of a round over these sites is wrong.
Lies = Callable[[int, frozenset[str]], bool]


def terms_of(num_sites: int, *, collusion: float = 0.1, participation: float = 1.0) -> SecureTerms:
    settings = (
        f"partition.num_sites={num_sites}",
        f"secure_aggregation.collusion={collusion}",
        f"federation.participation={participation}",
        "secure_aggregation.max_images=100",
    )
    return choose_terms(load_config(None, list(settings)), num_parameters=4)


def members_of(num_sites: int) -> tuple[str, ...]:
    return tuple(f"site-{k:03d}" for k in range(1, num_sites + 1))


def search(num_sites: int, **settings: float) -> SuspectSearch:
    return SuspectSearch(members_of(num_sites), terms=terms_of(num_sites, **settings))


def run(
    found: SuspectSearch,
    members: tuple[str, ...],
    lies: Lies,
    *,
    away: Callable[[int], set[str]] = lambda number: set(),
    rounds: int = 60,
) -> tuple[WrongSum | None, list[frozenset[str]]]:
    """The error that ends the run, if any does, and the survivors of each round."""
    asked: list[frozenset[str]] = []
    for number in range(1, rounds + 1):
        survivors = tuple(
            site for site in members if site not in found.left_out(members) | away(number)
        )
        asked.append(frozenset(survivors))
        if not lies(number, asked[-1]):
            found.right(number, askable=members, survivors=survivors)
            continue
        error = found.wrong(number, "why", askable=members, survivors=survivors)
        if not error.search_goes_on:
            return error, asked
    return None, asked


@settings(max_examples=15)
@given(st.integers(min_value=5, max_value=128), st.sampled_from([0.02, 0.1, 0.2]))
def test_groups_are_as_small_as_they_may_be_and_a_sum_can_spare_each(
    num_sites: int, collusion: float
) -> None:
    terms, groups = (
        terms_of(num_sites, collusion=collusion),
        search(num_sites, collusion=collusion).groups,
    )
    smallest = terms.num_colluders + MIN_HONEST
    assert bool(groups) == (num_sites >= 3 * smallest)
    if groups:
        assert sorted(site for group in groups for site in group) == list(members_of(num_sites))
        assert all(smallest <= len(group) <= num_sites - terms.threshold for group in groups)
        assert len(groups) == num_sites // smallest


@settings(max_examples=15)
@given(st.data())
def test_one_that_lies_each_time_is_in_the_group_that_is_named(data: st.DataObject) -> None:
    num_sites = data.draw(st.integers(min_value=12, max_value=128))
    terms, members = terms_of(num_sites), members_of(num_sites)
    found = SuspectSearch(members, terms=terms)
    if not found.groups:
        return
    liar, first = data.draw(st.sampled_from(members)), data.draw(st.integers(1, 5))
    error, asked = run(found, members, lambda number, s: number >= first and liar in s)
    assert error is not None
    (group,) = (group for group in found.groups if liar in group)
    assert f"probably one of {', '.join(sorted(group))} does" in str(error)
    # All were asked until it lied; then each sum was over enough sites; it took a round a group
    # and two more at most.
    assert set(asked[:first]) == {frozenset(members)}
    assert all(len(survivors) >= terms.threshold for survivors in asked)
    assert len(asked) - first <= len(found.groups) + 1
    # Nothing finer than a group shows, whatever is added or subtracted.
    for survivors, group in itertools.product(asked, found.groups):
        assert group <= survivors or group.isdisjoint(survivors)


def test_who_lied_once_makes_nobody_suspect() -> None:
    members = members_of(20)
    error, asked = run(search(20), members, lambda number, survivors: number == 2, rounds=8)
    assert error is None
    assert len(asked[2]) == 15
    assert set(asked[3:]) == {frozenset(members)}


def test_who_lies_now_and_then_cannot_cost_rounds_for_ever() -> None:
    members = members_of(20)
    everybody = frozenset(members)
    error, asked = run(search(20), members, lambda number, survivors: survivors == everybody)
    assert error is not None
    # It behaves in each second round over all of them, and so ends every search.
    count = itertools.count()
    error, asked = run(
        search(20), members, lambda number, s: s == everybody and next(count) % 2 == 0
    )
    assert error is not None
    assert "or lies now and then" in str(error)
    assert len(asked) == 13  # four groups: a refused sum, one without a group, one that is right


def test_liars_in_two_groups_are_not_pinned_on_one() -> None:
    members = members_of(20)
    liars = {members[0], members[11]}
    error, _ = run(search(20), members, lambda number, survivors: bool(liars & survivors))
    assert error is not None
    assert "it is not in one group alone" in str(error)
    assert "probably" not in str(error)


def test_who_reacts_can_put_suspicion_on_others_which_is_why_it_is_no_proof() -> None:
    members = members_of(20)
    liar, framed = members[19], members[0]
    error, _ = run(search(20), members, lambda number, asked: {liar, framed} <= asked)
    assert error is not None
    assert framed in str(error)
    assert "another site could make it look so, and nobody is excluded" in str(error)


def test_site_that_is_away_by_itself_is_no_alibi_of_others() -> None:
    """The liar was away in the first test: the group that was left out then is not its own."""
    members = members_of(20)
    liar = members[12]
    found = search(20)
    error, _ = run(
        found,
        members,
        lambda number, survivors: liar in survivors,
        away=lambda number: {liar} if number == 2 else set(),
    )
    assert error is not None
    (group,) = (group for group in found.groups if liar in group)
    assert f"probably one of {', '.join(sorted(group))} does" in str(error)


def test_too_many_sites_away_end_the_search() -> None:
    members, found = members_of(20), search(20)
    gone = set(members[16:])
    error, _ = run(found, members, lambda number, survivors: True, away=lambda number: gone)
    assert error is not None
    assert f"while {', '.join(sorted(gone))} are away" in str(error)


@pytest.mark.parametrize(
    ("num_sites", "settings", "why"),
    [
        (5, {}, "a group of 4, the fewest whose part may show, cannot be left out: of 5 sites"),
        (14, {}, "of 14 sites a sum needs 9"),
        (20, {"participation": 0.5}, "participation below 1"),
    ],
)
def test_where_no_group_may_be_left_out_the_error_says_why(
    num_sites: int, settings: dict[str, float], why: str
) -> None:
    found, members = search(num_sites, **settings), members_of(num_sites)
    error = found.wrong(3, "too long", askable=members, survivors=members)
    assert not error.search_goes_on
    assert f"round 3: no honest sites enter such a sum: too long: one of {members[0]}" in str(error)
    assert why in str(error)
    assert "--skip-round" in str(error)
    assert found.left_out(members) == frozenset()
