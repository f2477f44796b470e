"""Attack 4: ask twice; a second answer about another set would give away single inputs."""

import dataclasses

import pytest

from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted


def test_a_second_request_gets_no_second_answer(hostile):
    server = hostile().join().deal().mask().sign().unmask()
    for client in server.clients.values():
        assert client.receive(server.quorum()).outbound == b""
        assert client.state == "Unmasked"


def test_another_quorum_after_the_answer_ends_the_session(hostile, aborts):
    server = hostile().join().deal().mask().sign().unmask()
    ids = list(server.clients)
    aborts(server.clients[ids[0]], server.quorum(ids[:4]), Misbehaviour.EQUIVOCATION)


def test_no_survivor_set_is_signed_after_the_shares_left(hostile, aborts):
    server = hostile().join().deal().mask().sign().unmask()
    ids = list(server.clients)
    aborts(server.clients[ids[0]], server.survivors(ids[:4]), Misbehaviour.EQUIVOCATION)


def test_the_round_is_not_joined_again_after_signing(hostile, federation):
    members = federation()
    hostile(members).join().deal().mask().sign()
    retry = hostile(members, spec=dataclasses.replace(members.spec, attempt=1), attempt=1)
    for client in retry.clients.values():
        with pytest.raises(RemoteProtocolError) as caught:
            client.receive(retry.offer())
        assert caught.value.reason is Misbehaviour.ROUND_REPLAYED


def test_of_two_attempts_in_flight_only_one_is_signed(hostile, federation):
    members = federation()
    first = hostile(members).join().deal().mask()
    spec = dataclasses.replace(members.spec, attempt=1)
    second = hostile(members, spec=spec, attempt=1).join().deal().mask()
    ids = list(first.clients)
    second.sign(ids)
    for client in first.clients.values():
        with pytest.raises(SessionAborted) as caught:
            client.receive(first.survivors(ids[:4] if client is first.clients[ids[0]] else ids))
        assert caught.value.reason is AbortReason.ROUND_ALREADY_SIGNED
