"""Cohorts of the largest size: exact sums at a million words, drop-outs included."""

import numpy as np
import pytest

from protocol.words import centre


def check(members, completed):
    """The sum against numpy's, over the survivors."""
    total = np.zeros(members.spec.num_words, dtype=np.int64)
    for id in completed.survivors:
        total += members.words(id)
    assert np.array_equal(centre(completed.words, word_bits=members.spec.word_bits), total)
    assert list(completed.extra) == [sum(members.extra_words(id)[0] for id in completed.survivors)]


@pytest.mark.slow
def test_64_sites_of_which_6_vanish_after_sharing_at_a_million_words(federation, simulation):
    members = federation(64, collusion=0.1, num_words=1_000_000, word_bits=24)
    gone = members.ids[::11]
    assert len(gone) == 6
    completed = simulation.Round(members).run(absent={2: gone})
    assert set(completed.survivors) == set(members.ids) - set(gone)
    check(members, completed)


@pytest.mark.slow
def test_64_sites_of_which_6_vanish_at_six_moments(federation, simulation):
    members = federation(64, collusion=0.1, num_words=100_000, word_bits=32)
    absent = {stage: [members.ids[7 * stage]] for stage in range(5)}
    absent[2].append(members.ids[63])
    completed = simulation.Round(members).run(absent=absent)
    assert len(completed.survivors) == 60
    check(members, completed)


@pytest.mark.slow
@pytest.mark.parametrize("word_bits", [24, 32])
def test_128_sites_at_a_million_words(federation, simulation, word_bits):
    members = federation(128, collusion=0.1, num_words=1_000_000, word_bits=word_bits)
    completed = simulation.Round(members).run(absent={2: members.ids[3:4], 4: members.ids[9:10]})
    assert len(completed.survivors) == 127
    check(members, completed)


@pytest.mark.parametrize("num_sites", [32, pytest.param(128, marks=pytest.mark.slow)])
def test_as_many_sites_vanish_as_may_at_a_hundred_words(federation, simulation, num_sites):
    members = federation(num_sites, collusion=0.1, num_words=100)
    gone = members.ids[: num_sites - members.spec.quorum]
    completed = simulation.Round(members).run(absent={2: gone})
    assert len(completed.survivors) == members.spec.quorum > num_sites / 2
    check(members, completed)
