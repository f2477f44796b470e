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


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_10000_schedules_give_the_exact_sum_or_an_abort(simulation, schedules, block):
    seeds = range(1_000 + 500 * block, 1_500 + 500 * block)
    outcomes = [run_one(simulation, schedules, seed) for seed in seeds]
    assert 100 < sum(outcomes) < 450
