"""Whatever the network and lying sites do: the exact sum over the survivors, or an abort."""

from collections import Counter

import pytest

from protocol import is_proven, is_signed
from protocol.suite import Suite
from protocol.words import centre

# Convicted without the session, by whoever holds the roster.
PROVABLE = ("unreadable share", "other share", "false complaint", "wrong share revealed")


def run_one(simulation, schedules, liars, seed, **how):
    """One schedule, checked; returns the kinds of lies in it and its outcome."""
    schedule = schedules.draw(simulation, liars, seed, **how)
    members, kinds = schedule.members, schedule.lies.kinds
    outcome = schedule.run()
    assert outcome.convicted <= set(kinds), "an honest site was convicted"
    for proof in outcome.proofs:
        if kinds[proof.culprit] in PROVABLE:
            assert is_proven(proof, roster=members.roster)
        else:
            assert is_signed(proof, roster=members.roster)
    if outcome.completed is None:
        # On a quiet network liars within the bound stop no round, and cost an attempt each at most.
        assert not schedule.network.quiet
        return kinds, outcome
    survivors = set(outcome.completed.survivors)
    if schedule.network.quiet:
        assert set(members.ids) - set(kinds) <= survivors
    assert len(survivors) >= members.spec.quorum
    bits = members.spec.word_bits
    expected = members.expected(outcome.completed.survivors)
    for place, times in outcome.added.items():
        expected[place] += times * schedules.FALSE
    words = [int(word) for word in centre(outcome.completed.words, word_bits=bits)]
    got = [*words, *outcome.completed.extra]
    assert [(a - b) % (1 << bits) for a, b in zip(got, expected, strict=True)] == [0] * len(got)
    return kinds, outcome


def run_many(simulation, schedules, liars, seeds, **how):
    """How many schedules gave a sum, how often each kind of lie was convicted, and how many were
    tried again."""
    sums = again = 0
    told, caught = Counter(), Counter()
    for seed in seeds:
        kinds, outcome = run_one(simulation, schedules, liars, seed, **how)
        sums += outcome.completed is not None
        again += outcome.attempts > 1
        told.update(kinds.values())
        caught.update(kinds[id] for id in outcome.convicted)
    return sums, again, told, caught


@pytest.mark.long
def test_liars_within_the_bound_cost_nobody_else_and_no_round(simulation, schedules, liars):
    sums, again, told, caught = run_many(simulation, schedules, liars, range(214, 240), quiet=True)
    assert sums == 26
    assert set(told) == set(schedules.Lies.KINDS)
    # Leaving and entering what one likes break no rule of the protocol.
    assert not {"vanishes", "false input", "false count"} & set(caught)
    assert len(caught) >= 7
    assert again > 2


def test_schedules_give_the_exact_sum_or_an_abort(simulation, schedules, liars):
    sums, _, _, caught = run_many(simulation, schedules, liars, range(30), quiet=False)
    # Both must happen often, or the test would prove nothing.
    assert 5 < sums < 28
    assert caught


@pytest.mark.parametrize("quiet", [True, False])
def test_few_schedules_of_the_hybrid_suite(simulation, schedules, liars, quiet):
    how = {"quiet": quiet, "suite": Suite.HYBRID_PQ}
    sums, _, _, _ = run_many(simulation, schedules, liars, range(2), **how)
    assert sums == 2 if quiet else sums <= 2


@pytest.mark.slow
@pytest.mark.parametrize("block", range(2))
def test_100_schedules_of_the_hybrid_suite(simulation, schedules, liars, block):
    seeds = range(20_000 + 50 * block, 20_050 + 50 * block)
    sums, again, told, caught = run_many(simulation, schedules, liars, seeds, suite=Suite.HYBRID_PQ)
    assert 20 < sums < 48
    assert again > 5
    assert set(told) == set(schedules.Lies.KINDS)
    assert {"other secret", "false complaint"} <= set(caught)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_10000_schedules_give_the_exact_sum_or_an_abort(simulation, schedules, liars, block):
    seeds = range(1_000 + 500 * block, 1_500 + 500 * block)
    sums, again, told, caught = run_many(simulation, schedules, liars, seeds)
    assert 200 < sums < 480
    assert again > 20
    assert set(told) == set(schedules.Lies.KINDS)
    assert len(caught) >= 9


def test_the_generator_repeats(simulation, schedules, liars):
    """A seed that fails is enough to see it again."""
    for seed in (1, 2):
        (_, first), (_, second) = (run_one(simulation, schedules, liars, seed) for _ in range(2))
        assert (first.convicted, first.attempts) == (second.convicted, second.attempts)
