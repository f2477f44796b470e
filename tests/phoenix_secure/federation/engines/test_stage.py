"""When a stage closes, against a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.stage import Stage

NO = Failure(code=FailureCode.NO_REPLY)
GOOD = Reply(body=b"x")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def stage_of(clock: Clock, *, sites="abc", quorum=None, grace_s=2.0) -> Stage:
    return Stage(sites, deadline_s=10, quorum=quorum, grace_s=grace_s, clock=clock)


def test_closes_at_the_deadline_and_not_before() -> None:
    clock = Clock()
    stage = stage_of(clock)
    clock.now = 9.99
    assert not stage.closed
    clock.now = 10
    assert stage.closed
    assert stage.answers() == dict.fromkeys("abc", NO)


def test_failures_do_not_count_towards_the_quorum() -> None:
    clock = Clock()
    stage = stage_of(clock, quorum=1)
    stage.settle("a", Failure(code=FailureCode.REFUSED))
    clock.now = 5
    assert not stage.closed
    stage.settle("b", GOOD)
    clock.now = 7
    assert stage.closed


def test_grace_runs_from_the_quorum_and_later_answers_do_not_extend_it() -> None:
    clock = Clock()
    stage = stage_of(clock, sites="abcd", quorum=2)
    stage.settle("a", GOOD)
    clock.now = 1
    stage.settle("b", GOOD)
    clock.now = 2.5
    stage.settle("c", GOOD)
    assert not stage.closed
    clock.now = 3
    assert stage.closed
    assert stage.answers()["d"] == NO


def test_first_answer_counts_and_strangers_do_not() -> None:
    stage = stage_of(Clock())
    stage.settle("a", GOOD)
    stage.settle("a", NO)
    stage.settle("z", GOOD)
    assert stage.answers() == {"a": GOOD, "b": NO, "c": NO}


@pytest.mark.parametrize("quorum", [None, 3, 99])
def test_closes_at_once_when_all_have_answered(quorum) -> None:
    stage = stage_of(Clock(), quorum=quorum)
    for site in "abc":
        assert not stage.closed
        stage.settle(site, GOOD)
    assert stage.closed


@given(order=st.permutations("abcde"), quorum=st.integers(1, 5))
def test_answers_are_sorted_and_complete_in_any_order(order, quorum) -> None:
    stage = stage_of(Clock(), sites="abcde", quorum=quorum)
    for site in order[:quorum]:
        stage.settle(site, GOOD)
    answers = stage.answers()
    assert list(answers) == list("abcde")
    assert sum(isinstance(a, Reply) for a in answers.values()) == quorum
