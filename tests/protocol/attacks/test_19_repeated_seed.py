"""Attack 19: make one site use one mask for two inputs: stuck entropy, fork, copy, restore."""

import copy
import dataclasses
import os
import pickle

import pytest

from protocol.entropy import insecure_counter_entropy
from protocol.errors import AbortReason, LocalProtocolError, SessionAborted

MODEL = b"the exact bytes of a model"


def repeated(members, id):
    """An entropy source that starts anew in each session, as after a restored snapshot."""
    return insecure_counter_entropy(b"snapshot" + id.encode())


@pytest.mark.parametrize("change", [{"round": 4}, {"attempt": 1}])
def test_the_same_entropy_in_another_round_or_attempt_gives_other_keys(hostile, federation, change):
    members = federation()
    first = hostile(members).join().deal().mask()
    spec = dataclasses.replace(members.spec, **change)
    # The counter entropy of the test federation depends on the attempt: undo that.
    second = hostile(members, spec=spec, attempt=0).join().deal().mask()
    for id in members.ids:
        a, b = first.public_keys()[id], second.public_keys()[id]
        assert a.channel != b.channel
        assert a.mask != b.mask
        sealed = [{s.sealed for s in x.dealt[id].shares if s.sealed} for x in (first, second)]
        assert not sealed[0] & sealed[1]
        assert bytes(first.uploads[id].packed) != bytes(second.uploads[id].packed)


def test_a_restored_session_does_not_send_a_second_input(hostile, federation):
    # Same context, same entropy, same peers' messages: every mask would be the same, and the
    # difference of the two uploads would be the difference of the two inputs.
    members = federation()
    first = hostile(members).join().deal().mask()
    victim = members.ids[0]
    again = members.client(victim)
    again.receive(first.offer())
    assert again.accept_model(MODEL).outbound == first.ads[victim]
    again.provide_input(-members.words(victim), extra=[0])
    again.receive(first.directory())
    with pytest.raises(SessionAborted) as caught:
        again.receive(first.delivery(victim))
    assert caught.value.reason is AbortReason.INPUT_ALREADY_SENT
    assert again.state == "Aborted"


def test_entropy_that_is_stuck_is_noticed(federation):
    members = federation()
    client = members.client(members.ids[0], entropy=bytes)
    client.receive(members.offer())
    with pytest.raises(LocalProtocolError, match="repeats itself"):
        client.accept_model(MODEL)


@pytest.mark.parametrize("draw", [lambda n: b"", lambda n: bytes(n - 1), lambda n: bytearray(n)])
def test_entropy_that_falls_short_is_noticed(federation, draw):
    members = federation()
    client = members.client(members.ids[0], entropy=draw)
    client.receive(members.offer())
    with pytest.raises(LocalProtocolError, match="entropy source"):
        client.accept_model(MODEL)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_forked_child_cannot_go_on_with_its_parents_session(federation, side):
    members = federation()
    server = members.server()
    offers = server.start().outbound
    client = members.client(members.ids[0])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if side == "client":
                client.receive(offers[members.ids[0]])
            else:
                server.close_stage()
            answer = b"went on"
        except LocalProtocolError as error:
            answer = str(error).encode()
        finally:
            os.write(writer, answer)
            os._exit(0)
    os.waitpid(child, 0)
    assert b"fork()" in os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    assert client.receive(offers[members.ids[0]]).events


@pytest.mark.parametrize("stage", range(6))
@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda f: f.__name__)
def test_a_session_cannot_be_copied_in_any_state(hostile, stage, take):
    server = hostile()
    for step in (server.join, server.deal, server.mask, server.sign, server.unmask)[:stage]:
        step()
    client = next(iter(server.clients.values()))
    for secret in (client, client._state, server.federation.identities["site-000"]):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            take(secret)


def test_two_sessions_with_the_systems_entropy_share_nothing(hostile, federation):
    one, two = (hostile(federation(), entropy=os.urandom).join().deal().mask() for _ in range(2))
    for id in one.clients:
        assert not {one.public_keys()[id].mask, one.public_keys()[id].channel} & {
            two.public_keys()[id].mask,
            two.public_keys()[id].channel,
        }
        assert bytes(one.uploads[id].packed) != bytes(two.uploads[id].packed)
