"""Whole rounds: the sum is exact over the survivors, whoever vanishes and whenever."""

import numpy as np
import pytest

from protocol.errors import AbortReason, SessionAborted
from protocol.words import centre


def check_sum(federation, completed):
    """The server's result against the plain sum over the very same sites."""
    expected = federation.expected(completed.survivors)
    got = centre(completed.words, word_bits=federation.spec.word_bits)
    assert [int(v) for v in got] == expected[: federation.spec.num_words]
    assert list(completed.extra) == expected[federation.spec.num_words :]


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("num_words", [1, 2, 3, 4, 19, 70_001])
def test_the_sum_is_exact_for_every_word_size(federation, simulation, word_bits, num_words):
    members = federation(num_words=num_words, word_bits=word_bits)
    completed = simulation.Round(members).run()
    assert completed.survivors == members.ids
    check_sum(members, completed)


@pytest.mark.parametrize("stage", range(5))
def test_one_of_five_sites_may_vanish_at_any_stage(federation, simulation, stage):
    members = federation()
    gone = members.ids[2]
    completed = simulation.Round(members).run(absent={stage: [gone]})
    # From R3 on its input is in the sum, and the others' shares remove its self mask.
    assert (gone in completed.survivors) == (stage >= 3)
    check_sum(members, completed)


@pytest.mark.parametrize("stage", range(5))
def test_two_of_five_sites_vanishing_end_the_attempt(federation, simulation, stage):
    members = federation()
    with pytest.raises(SessionAborted) as caught:
        simulation.Round(members).run(absent={stage: members.ids[:2]})
    assert caught.value.reason is AbortReason.TOO_FEW_CLIENTS
    assert caught.value.retry_allowed == (stage < 3)


@pytest.mark.parametrize("stage", range(5))
def test_an_answer_that_is_lost_counts_like_a_site_that_vanished(federation, simulation, stage):
    members = federation()
    attempt = simulation.Round(members)
    for number in range(5):
        attempt.step(lost=[members.ids[0]] if number >= stage else [])
    check_sum(members, attempt.completed)


def test_different_sites_may_vanish_at_different_stages(federation, simulation):
    members = federation(16, collusion=0.1)
    absent = {stage: [members.ids[3 * stage]] for stage in range(5)}
    completed = simulation.Round(members).run(absent=absent)
    assert len(completed.survivors) == 13
    check_sum(members, completed)


def test_every_site_learns_the_same_transcript(federation, simulation):
    members = federation()
    attempt = simulation.Round(members)
    completed = attempt.run()
    hashes = {
        e.transcript_hash
        for _, group in attempt.events
        for e in group
        if hasattr(e, "transcript_hash")
    }
    assert hashes == {completed.transcript_hash}
    assert all(client.state == "Finished" for client in attempt.clients.values())
    assert all(client.is_over for client in attempt.clients.values())
    assert attempt.server.is_over


def test_a_failed_attempt_is_followed_by_one_with_new_keys_and_a_new_context(
    federation, simulation
):
    members = federation(6)
    with pytest.raises(SessionAborted) as caught:
        simulation.Round(members).run(absent={2: members.ids[:2]})
    assert caught.value.retry_allowed
    spec = members.spec.next_attempt(cohort=members.spec.cohort)
    assert spec.context != members.spec.context
    check_sum(members, simulation.Round(members, spec=spec, attempt=1).run())


def test_the_regular_graph_gives_the_exact_sum_too(federation, simulation):
    members = federation(24, collusion=0.1, degree=12, share_threshold=7)
    absent = {1: [members.ids[1]], 2: [members.ids[5], members.ids[9]]}
    completed = simulation.Round(members).run(absent=absent)
    assert len(completed.survivors) == 21
    check_sum(members, completed)


def test_noise_is_in_the_sum_and_only_there(federation, simulation):
    members = federation(noise_variance=30.0)
    check_sum(members, simulation.Round(members).run())


def test_threads_change_no_bit(federation, simulation):
    results = []
    for threads in (1, 3):
        members = federation(num_words=300_000, word_bits=24)
        clients = {id: members.client(id, num_threads=threads) for id in members.ids}
        server = members.server(num_threads=threads)
        attempt = simulation.Round(members, server=server, clients=clients)
        results.append((attempt.run(), [out for *_, out in attempt.log]))
    assert np.array_equal(results[0][0].words, results[1][0].words)
    assert results[0][1] == results[1][1]
