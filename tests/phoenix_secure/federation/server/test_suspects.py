"""The search for who spoils sums: what it sets aside, what it concludes, what a liar gains."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.suspects import SuspectSearch

# Which sites lie in a round; all they cannot know is whom this round's draw sets aside.
Lies = Callable[[int, SuspectSearch], set[str]]


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


@dataclass
class Rounds:
    """What became of a run: sums refused and used, and who was in each."""

    search: SuspectSearch
    refused: list[int] = field(default_factory=list)
    survivors: list[frozenset[str]] = field(default_factory=list)
    error: str = ""  # what ended it


def run(
    num_sites: int,
    lies: Lies,
    *,
    rounds: int = 60,
    seed: int = 0,
    away: Callable[[int], set[str]] = lambda number: set(),
    **terms: float,
) -> Rounds:
    members = members_of(num_sites)
    search = SuspectSearch(
        members,
        terms=terms_of(num_sites, **terms),
        rng=random.Random(seed),  # noqa: S311 - steers a test
    )
    found = Rounds(search)
    for number in range(1, rounds + 1):
        liars = lies(number, search)
        present = tuple(site for site in members if site not in away(number))
        aside = search.set_aside(present)
        survivors = tuple(site for site in present if site not in aside)
        found.survivors.append(frozenset(survivors))
        if liars.isdisjoint(survivors):
            search.right(number, survivors=survivors)
            continue
        found.refused.append(number)
        error = search.wrong(number, "why", survivors=survivors)
        if not error.search_goes_on:
            found.error = str(error)
            break
    return found


def some(liars: set[str], rate: float, rng: random.Random) -> set[str]:
    return {site for site in sorted(liars) if rng.random() < rate}


LIES = {
    "always": lambda liars, rng: lambda number, search: liars,
    "now and then": lambda liars, rng: (
        lambda number, search: {s for s in liars if rng.random() < 0.5}
    ),
    "when nobody is suspected": lambda liars, rng: (
        lambda number, search: set() if search._is_on else liars
    ),
    "in turns": lambda liars, rng: lambda number, search: {sorted(liars)[number % len(liars)]},
    "rarely": lambda liars, rng: lambda number, search: some(liars, 0.1, rng),
}


@example(6, 0.2, "always", 0)  # two liars, and a sum can do without one site
@settings(max_examples=10, deadline=None)
@given(
    st.integers(min_value=5, max_value=20),
    st.sampled_from([0.05, 0.1, 0.2]),
    st.sampled_from(sorted(LIES)),
    st.integers(min_value=0, max_value=10_000),
)
def test_no_honest_site_is_left_out_for_good_and_no_sum_is_small(
    num_sites: int, collusion: float, kind: str, seed: int
) -> None:
    terms = terms_of(num_sites, collusion=collusion)
    rng = random.Random(seed)  # noqa: S311 - steers a test
    liars = set(rng.sample(members_of(num_sites), rng.randint(1, terms.num_colluders)))
    found = run(num_sites, LIES[kind](liars, rng), rounds=30, seed=seed, collusion=collusion)
    if len(liars) <= num_sites - terms.threshold:
        assert not found.error
    else:  # no sum can do without all of them
        assert not found.error or "a sum can do without" in found.error
    assert found.search.convicted <= liars
    assert all(len(survivors) >= terms.threshold for survivors in found.survivors)


@pytest.mark.parametrize("seed", range(3))
def test_twenty_sites_with_two_that_lie_each_time_finish(seed: int) -> None:
    members = members_of(20)
    liars = set(random.Random(seed).sample(members, 2))  # noqa: S311 - steers a test
    found = run(20, lambda number, search: liars, seed=seed)
    assert not found.error
    assert len(found.refused) <= 30
    # In the end sums are right, but where everybody is asked once more, and few others wait.
    assert sum(number > 40 for number in found.refused) <= 2
    last = [set(members) - survivors for survivors in found.survivors[40:]]
    assert all(len(missing - liars) <= 4 for missing in last)


@pytest.mark.parametrize("kind", sorted(LIES))
def test_one_of_seven_costs_few_rounds_and_chooses_nobody(kind: str) -> None:
    members, gone = members_of(7), []
    for seed in range(5):
        rng = random.Random(seed)  # noqa: S311 - steers a test
        liar = members[3]
        found = run(7, LIES[kind]({liar}, rng), seed=seed)
        assert not found.error
        assert found.search.convicted <= {liar}
        assert len(found.refused) <= 12
        gone += [site for s in found.survivors for site in set(members) - s - {liar}]
    # Who waits in its place, it is the draw's choice: nobody much more than the others.
    counts = [gone.count(site) for site in members if site != liar]
    assert max(counts) <= 3 * (sum(counts) / len(counts)) + 10


def test_one_that_lies_only_where_another_is_present_has_nobody_left_out() -> None:
    """It sees who is there when it lies, and not whom the draw sets aside."""
    members = members_of(7)
    liar, framed = members[0], members[6]
    rng = random.Random(1)  # noqa: S311 - steers a test
    absent = [{framed} if rng.random() < 0.5 else set() for _ in range(60)]

    def lies(number: int, search: SuspectSearch) -> set[str]:
        return set() if absent[number - 1] else {liar}

    found = run(7, lies, away=lambda number: absent[number - 1])
    assert not found.error
    assert found.search.convicted <= {liar}
    assert sum(framed in survivors for survivors in found.survivors) > 10


def test_refused_sums_convict_who_alone_explains_them() -> None:
    """Arithmetic, from any draws: five sums without one other site each leave one explanation."""
    members = members_of(6)
    search = SuspectSearch(members, terms=terms_of(6))
    for number, missing in enumerate(members[1:], 1):
        assert search.convicted == frozenset()
        survivors = tuple(site for site in members if site != missing)
        error = search.wrong(number, "why", survivors=survivors)
        assert error.search_goes_on
    assert search.convicted == {members[0]}
    assert f"Left out for good: {members[0]}, since no 1 sites can have spoiled" in str(error)
    assert search.set_aside(members) == {members[0]}
    assert search.reasons[members[0]].startswith("left out: no 1 sites explain")


def test_who_lied_once_makes_nobody_suspect_for_long() -> None:
    members = frozenset(members_of(20))
    found = run(20, lambda number, s: {"site-001"} if number == 2 else set(), rounds=12)
    assert found.refused == [2]
    assert found.survivors[:2] == [members] * 2
    assert all(len(survivors) < 20 for survivors in found.survivors[2:6])
    assert found.survivors[6:] == [members] * 6


def test_who_ends_each_search_by_behaving_waits_longer_each_time() -> None:
    found = run(7, LIES["when nobody is suspected"]({"site-003"}, random.Random(0)), rounds=200)  # noqa: S311
    assert found.refused == [1, 7, 17, 35, 69, 135]


def test_more_liars_than_the_bound_end_the_run() -> None:
    found = run(5, lambda number, search: {"site-001", "site-002", "site-003"})
    assert "no 1 sites explain the refused sums of rounds 1, 2" in found.error
    assert "more sites lie than may" in found.error
    assert "--skip-round" in found.error


def test_large_rosters_are_searched_for_few_liars_and_convict_nobody() -> None:
    liars = {"site-010", "site-050"}
    found = run(64, lambda number, search: liars, rounds=6)
    assert found.search._largest < found.search._num_colluders == 7
    assert not found.error
    assert found.search.convicted == frozenset()


def test_cohorts_of_part_of_the_roster_are_searched_too() -> None:
    """Who is not asked takes no part in the sum, and has not spoiled it."""
    rng = random.Random(3)  # noqa: S311 - steers a test
    members = members_of(20)
    cohorts = [set(rng.sample(members, 10)) for _ in range(80)]
    found = run(
        20,
        lambda number, search: {members[0]},
        away=lambda number: set(members) - cohorts[number - 1],
        participation=0.5,
        rounds=80,
    )
    assert not found.error
    late = found.survivors[50:]
    assert sum(members[0] in survivors for survivors in late) <= 5
