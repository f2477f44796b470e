"""Each round is signed once, whatever order sessions and threads come in."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest

from protocol import InMemoryRoundCounter, SentInput

SURVIVORS = ("a", "b", "c")


def test_the_counter_takes_each_round_once_and_in_order():
    counter = InMemoryRoundCounter()
    assert counter.last_signed_round() == -1
    assert counter.record_signed_round(3, SURVIVORS)
    assert not counter.record_signed_round(3, SURVIVORS)
    assert not counter.record_signed_round(2, SURVIVORS)
    assert counter.last_signed_round() == 3
    assert counter.record_signed_round(4, SURVIVORS)


def test_of_many_threads_only_one_may_sign_a_round():
    counter = InMemoryRoundCounter()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: counter.record_signed_round(5, SURVIVORS), range(64)))
    assert sum(won) == 1


def sent(cohort, *, quorum, colluders=1, context=b"x"):
    return SentInput(context=context, cohort=tuple(cohort), quorum=quorum, num_colluders=colluders)


def test_every_input_of_a_round_is_remembered_until_a_round_is_signed():
    counter = InMemoryRoundCounter()
    first, second = sent("abcde", quorum=4), sent("abcde", quorum=4, context=b"y")
    assert counter.record_sent_input(3, first) == ()
    assert counter.record_sent_input(3, second) == (first,)
    assert counter.record_sent_input(4, first) == ()
    assert counter.record_signed_round(3, SURVIVORS)
    assert counter.record_sent_input(4, second) == (first,)


@pytest.mark.parametrize(
    ("first", "second", "safe"),
    [
        # The same cohort: 2 q - n > c is the rule for q itself.
        (sent("abcde", quorum=4), sent("abcde", quorum=4), True),
        (sent("abcdef", quorum=4), sent("abcde", quorum=4), True),
        # Quorums {b, c, d, e} and {a, b, f, g} share one site, which may be the colluding one.
        (sent("abcde", quorum=4), sent("abcfg", quorum=4), False),
        (sent("abcde", quorum=4), sent("abcdf", quorum=4, colluders=2), False),
        (sent("abcde", quorum=5), sent("abcdf", quorum=5), True),
    ],
)
def test_two_attempts_are_safe_if_their_quorums_must_share_an_honest_site(first, second, safe):
    assert first.excludes_second_sum(second) is safe
    assert second.excludes_second_sum(first) is safe
    worst = min(
        len(set(a) & set(b))
        for a in combinations(first.cohort, first.quorum)
        for b in combinations(second.cohort, second.quorum)
    )
    assert (worst > max(first.num_colluders, second.num_colluders)) is safe
