"""Attack 15: every message in every state where it does not belong."""

import pytest

from protocol import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocol.errors import Misbehaviour
from protocol.events import IgnoreReason, MessageIgnored

MODEL = b"the exact bytes of a model"
STATES = ["Idle", "Offered", "Announced", "Ready", "Shared", "Masked", "Signed", "Unmasked"]


# What each state takes: the numbers of the server's messages, or a call of the driver.
LEGAL = {
    "Idle": {0},
    "Offered": {"accept_model"},
    "Announced": {"provide_input"},
    "Ready": {1},
    "Shared": {2},
    "Masked": {3},
    "Signed": {4, 5},
    "Unmasked": {5},
}
# How many of the server's messages a client has taken before it comes to each state.
TAKEN = {"Idle": 0, "Shared": 2, "Masked": 3, "Signed": 4, "Unmasked": 5} | dict.fromkeys(
    ("Offered", "Announced", "Ready"), 1
)
CALLS = ("accept_model", "provide_input")


def illegal(moves):
    """Every pair of a state and a move that it does not allow."""
    return [(state, move) for state in STATES for move in moves if move not in LEGAL[state]]


@pytest.fixture(scope="module")
def recorded(simulation):
    """The messages of an honest round: to the first site, and from all of them by stage."""
    attempt = simulation.Round(simulation.Federation())
    attempt.run()
    first = attempt.federation.ids[0]
    to_client = [data for stage, id, data, _ in attempt.log if id == first]
    from_clients = [
        {id: out for at, id, _, out in attempt.log if at == stage} for stage in range(5)
    ]
    return to_client, from_clients


def client_in(state, members, to_client):
    """A fresh session of the first site, brought to ``state`` by the recorded messages."""
    client = members.client(members.ids[0])
    moves = [
        lambda: client.receive(to_client[0]),
        lambda: client.accept_model(MODEL),
        lambda: client.provide_input(
            members.words(members.ids[0]), extra=members.extra_words(members.ids[0])
        ),
        *(lambda data=data: client.receive(data) for data in to_client[1:5]),
    ]
    for move in moves[: STATES.index(state)]:
        move()
    assert client.state == state
    return client


@pytest.mark.parametrize(("state", "message"), illegal(range(6)))
def test_a_client_answers_only_the_message_of_its_state(federation, recorded, state, message):
    to_client, _ = recorded
    members = federation()
    client = client_in(state, members, to_client)
    if message < TAKEN[state]:
        step = client.receive(to_client[message])
        assert step.outbound == b""
        assert step.events == (MessageIgnored(peer="server", reason=IgnoreReason.DUPLICATE),)
    else:
        with pytest.raises((RemoteProtocolError, LocalProtocolError)) as caught:
            client.receive(to_client[message])
        if isinstance(caught.value, RemoteProtocolError):
            assert caught.value.reason is Misbehaviour.UNEXPECTED_MESSAGE
        else:
            assert (state, message) == ("Announced", 1)
    assert client.state == state


@pytest.mark.parametrize(("state", "call"), illegal(CALLS))
def test_a_driver_cannot_make_a_move_out_of_turn(federation, recorded, state, call):
    members = federation()
    client = client_in(state, members, recorded[0])
    calls = {
        "accept_model": lambda: client.accept_model(MODEL),
        "provide_input": lambda: client.provide_input(members.words(members.ids[0]), extra=[1]),
    }
    with pytest.raises(LocalProtocolError, match="not possible in state"):
        calls[call]()
    assert client.state == state


@pytest.mark.parametrize(
    ("stage", "message"), [(s, m) for s in range(5) for m in range(5) if s != m]
)
def test_the_server_takes_only_the_messages_of_its_stage(federation, recorded, stage, message):
    _, from_clients = recorded
    members = federation()
    server = members.server()
    server.start()
    for earlier in range(stage):
        for id, data in from_clients[earlier].items():
            server.receive(id, data)
        server.close_stage()
    state = server.state
    for id, data in from_clients[message].items():
        if message < stage:
            assert server.receive(id, data).events == (
                MessageIgnored(peer=id, reason=IgnoreReason.DUPLICATE),
            )
        else:
            with pytest.raises(RemoteProtocolError) as caught:
                server.receive(id, data)
            assert caught.value.reason is Misbehaviour.UNEXPECTED_MESSAGE
    assert server.state == state
    assert not server.excluded


def test_messages_between_clients_and_to_oneself_are_nothing(federation, recorded):
    to_client, from_clients = recorded
    members = federation()
    first, second = members.ids[:2]
    client = members.client(first)
    for stage in range(5):
        for id in (first, second):
            with pytest.raises(ProtocolError):
                client.receive(from_clients[stage][id])
    server = members.server()
    server.start()
    for data in to_client:
        for peer in (first, "server", "nobody"):
            with pytest.raises(RemoteProtocolError):
                server.receive(peer, data)
    # A message that is one site's, in another's name.
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(second, from_clients[0][first])
    assert caught.value.reason is Misbehaviour.UNKNOWN_SENDER
    assert not server.excluded
