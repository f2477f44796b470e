"""Attack 13: two sums of one round over sets that differ by one site; their difference is it.

So et al. (2023), arXiv:2106.03328, on differencing. Within one cohort two quorums share an honest
site, and an honest site signs once. Two attempts over different cohorts need the same guarantee.
"""

import dataclasses

import pytest

from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted


def retry_of(members, **changes):
    return dataclasses.replace(members.spec, attempt=members.spec.attempt + 1, **changes)


def test_the_same_round_again_with_one_site_fewer(hostile, federation):
    members = federation(6)
    hostile(members).join().deal().mask().sign()
    again = hostile(members, spec=retry_of(members, cohort=members.ids[:5]), attempt=1)
    for client in again.clients.values():
        with pytest.raises(RemoteProtocolError) as caught:
            client.receive(again.offer())
        assert caught.value.reason is Misbehaviour.ROUND_REPLAYED


def test_two_attempts_in_flight_over_one_cohort(hostile, federation):
    # Everybody uploads in both; the quorum of 4 of 5 cannot be reached twice.
    members = federation()
    first = hostile(members).join().deal().mask()
    second = hostile(members, spec=retry_of(members), attempt=1).join().deal().mask()
    ids = members.ids
    first.sign(ids, ids=ids[:3])
    second.sign(ids[1:], ids=ids[3:])
    for server, others in ((first, ids[3:]), (second, ids[1:3])):
        for id in others:
            with pytest.raises(SessionAborted) as caught:
                server.clients[id].receive(server.survivors(ids))
            assert caught.value.reason is AbortReason.ROUND_ALREADY_SIGNED
    assert max(len(first.signatures), len(second.signatures)) < members.spec.quorum


def test_two_attempts_over_cohorts_that_overlap_too_little(hostile, federation):
    # 11 sites, c = 1. Attempt 0 has sites 0-9, attempt 1 has sites 1-10; both quorums are 6, and
    # sites 0-5 and 6-10 with one colluder could sign one each: the difference is x_0 - x_10.
    members = federation(11, collusion=0.0)
    spec = dataclasses.replace(members.spec, cohort=members.ids[:10], quorum=6, threshold=6)
    first = hostile(members, spec=spec).join().deal().mask()
    spec = dataclasses.replace(spec, attempt=1, cohort=members.ids[1:])
    second = hostile(members, spec=spec, attempt=1).join().deal()
    for id in members.ids[1:10]:
        with pytest.raises(SessionAborted) as caught:
            second.clients[id].receive(second.delivery(id))
        assert caught.value.reason is AbortReason.ATTEMPTS_OVERLAP
        assert second.clients[id].state == "Aborted"
    # Who was in no other attempt may go on, but can be in no sum with those who were in both.
    assert second.mask([members.ids[10]]).uploads.keys() == {members.ids[10]}
    assert first.sign().unmask().revealed


def test_a_retry_without_the_accused_site_is_possible(hostile, federation):
    members = federation(11, collusion=0.1)
    hostile(members).join().deal().mask()
    spec = members.spec.next_attempt(cohort=members.ids[:10])
    second = hostile(members, spec=spec, attempt=1).join().deal().mask().sign().unmask()
    assert len(second.revealed) == 10


def test_no_input_for_an_attempt_at_a_round_that_was_signed_meanwhile(hostile, federation):
    # The record of inputs of a signed round may be dropped: without its help, too, nothing leaves.
    members = federation()
    first = hostile(members).join().deal().mask()
    second = hostile(members, spec=retry_of(members), attempt=1).join().deal()
    first.sign()
    for id in members.ids:
        members.counters[id]._sent.clear()
        with pytest.raises(SessionAborted) as caught:
            second.clients[id].receive(second.delivery(id))
        assert caught.value.reason is AbortReason.ROUND_ALREADY_SIGNED
