"""Whatever the network and a few lying sites do: the exact sum over the survivors, or an abort."""

import random
from collections import Counter, defaultdict

import pytest

from protocol.commitments import ShareKind
from protocol.messages import Envelope, Unmask
from protocol.words import centre


def revealed_kinds(attempt):
    """For each dealer, which kinds of its shares any site ever let out, and how many."""
    kinds = defaultdict(Counter)
    for _, id, _, outbound in attempt.log:
        if not outbound:
            continue
        envelope = Envelope.parse(outbound, peer=id, max_size=len(outbound))
        if envelope.label == Unmask.LABEL:
            unmask = Unmask.decode(envelope.body, peer=id, max_shares=100)
            for share in unmask.shares:
                kinds[share.dealer][share.kind] += 1
    return kinds


def run_one(simulation, schedules, seed):
    """One schedule; True if it gave a sum."""
    rng = random.Random(seed)  # noqa: S311 - steers a test
    members = simulation.Federation(
        rng.choice([5, 6, 7, 9]),
        num_words=rng.choice([1, 5, 16]),
        word_bits=rng.choice([16, 24, 32]),
        noise_variance=rng.choice([0.0, 9.0]),
    )
    attempt = simulation.Round(members)
    completed = schedules.Schedule(attempt, rng).run()
    for kinds in revealed_kinds(attempt).values():
        assert len(kinds) == 1, "both shares of one dealer left"
        assert set(kinds) <= set(ShareKind)
    if completed is None:
        return False
    assert len(completed.survivors) >= members.spec.quorum
    expected = members.expected(completed.survivors)
    got = [int(v) for v in centre(completed.words, word_bits=members.spec.word_bits)]
    assert got + list(completed.extra) == expected
    return True


@pytest.mark.parametrize("num_schedules", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_schedules_give_the_exact_sum_or_an_abort(simulation, schedules, num_schedules):
    outcomes = [run_one(simulation, schedules, seed) for seed in range(num_schedules)]
    # Both must happen often, or the test would prove nothing.
    assert 0.2 < sum(outcomes) / num_schedules < 0.9


def run_with_liars(simulation, schedules, liars, seed):
    """As many lying sites as the threshold bears; returns the kinds of lies that were told."""
    rng = random.Random(seed)  # noqa: S311 - steers a test
    n = rng.choice([5, 7, 9, 20] if seed % 5 == 0 else [5, 7, 9])
    members = simulation.Federation(n, num_words=3, collusion=0.1)
    count = rng.randint(1, members.spec.num_colluders)
    lies = {id: rng.choice(schedules.LyingSites.KINDS) for id in rng.sample(members.ids, count)}
    lying = schedules.LyingSites(simulation, liars, members, lies, rng)
    completed = lying.run()
    # Only who lied is excluded, and each liar costs one attempt at most.
    assert set(lying.excluded) <= set(lies)
    assert lying.attempts <= 1 + len(lies)
    honest = set(members.ids) - set(lies)
    assert honest <= set(completed.survivors)
    expected = members.expected(completed.survivors)
    for id, place in lying.added.items():
        if id in completed.survivors:
            expected[place] += 12345
    got = [int(v) for v in centre(completed.words, word_bits=32)]
    assert got + list(completed.extra) == expected
    return set(lies.values()), lying


def test_liars_of_every_kind_cost_nobody_else_and_no_round(simulation, schedules, liars):
    told, convicted, repeated = set(), 0, 0
    for seed in range(50):
        kinds, lying = run_with_liars(simulation, schedules, liars, seed)
        told |= kinds
        convicted += len(lying.excluded)
        repeated += lying.attempts > 1
    assert told == set(schedules.LyingSites.KINDS)
    assert convicted > 20
    assert repeated > 2


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_more_liars(simulation, schedules, liars, block):
    for seed in range(1_000 + 100 * block, 1_100 + 100 * block):
        run_with_liars(simulation, schedules, liars, seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_10000_schedules_give_the_exact_sum_or_an_abort(simulation, schedules, block):
    seeds = range(1_000 + 500 * block, 1_500 + 500 * block)
    outcomes = [run_one(simulation, schedules, seed) for seed in seeds]
    assert 100 < sum(outcomes) < 450
