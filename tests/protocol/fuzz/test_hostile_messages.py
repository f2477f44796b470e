"""Mutated messages to both sessions, in every state, as an outsider and as a signing insider."""

import time

import pytest

from protocol import SERVER, SessionAborted
from protocol.counter import InMemoryRoundCounter
from protocol.errors import ProtocolError, RemoteProtocolError
from protocol.messages import Envelope

QUICK_OUTSIDER, QUICK_INSIDER = 2_000, 1_200
LONG_OUTSIDER, LONG_INSIDER = 180_000, 120_000


class Sessions:
    """The recorded sessions, brought back before each hostile message."""

    def __init__(self, recorded):
        self.recorded = recorded
        self.members = recorded.members
        self.client, self.server = recorded.client, recorded.server

    def targets(self):
        """(restore, honest message, give it to the session, its sender) for every state."""
        found = []
        for restore, message in self.recorded.to_client:
            found.append((self.client, restore, message, self.client.receive, SERVER))
        for restore, message in self.recorded.to_server:
            found.append((self.server, restore, message, self.give_to_server, self.recorded.site))
        return found

    def give_to_server(self, data):
        return self.server.receive(self.recorded.site, data)

    def fresh_counter(self):
        """The client signs in each replay: forget that it did."""
        object.__setattr__(self.client._site, "counter", InMemoryRoundCounter())


@pytest.fixture
def sessions(recorded):
    return Sessions(recorded)


def outsider(sessions, mutator, count):
    """Altered messages that nobody signed: never an answer, never a change of state."""
    slowest = 0.0
    targets = sessions.targets()
    for number in range(count):
        session, restore, honest, give, _ = targets[number % len(targets)]
        data = mutator.mutate(honest)
        if data == honest:
            continue
        restore()
        before = session._state
        start = time.thread_time()
        with pytest.raises(RemoteProtocolError):
            give(data)
        slowest = max(slowest, time.thread_time() - start)
        assert session._state is before
    return slowest


def insider(sessions, mutator, count):
    """Altered bodies, properly signed by a lying peer: an answer within the rules, or a refusal."""
    slowest, ends = 0.0, {"accepted": 0, "refused": 0, "aborted": 0}
    targets = sessions.targets()
    for number in range(count):
        session, restore, honest, give, sender = targets[number % len(targets)]
        body = bytes(Envelope.parse(honest, peer=sender, max_size=len(honest)).body)
        changed = mutator.mutate(body)
        data = sessions.members.reseal(sender, honest, body=changed)
        restore()
        sessions.fresh_counter()
        before = session._state
        start = time.thread_time()
        try:
            give(data)
            ends["accepted"] += 1
            check_progress(sessions, session, before)
        except RemoteProtocolError:
            ends["refused"] += 1
            assert session._state is before
        except SessionAborted:
            ends["aborted"] += 1
            assert session.state == "Aborted"
        slowest = max(slowest, time.thread_time() - start)
    return slowest, ends


def check_progress(sessions, session, before):
    """What a client may have agreed to, whatever the server made of its message."""
    quorum, ids = sessions.members.spec.quorum, set(sessions.members.ids)
    state = session._state
    for name in ("members", "dealers", "survivors"):
        group = getattr(state, name, None)
        if group is not None and session is sessions.client:
            assert len(set(group)) == len(group) >= quorum
            assert set(group) <= ids
            assert sessions.recorded.site in group
    assert state is not before or session.state in ("Idle", "Masking", "Advertising")


@pytest.fixture(autouse=True)
def leave_sessions_as_they_were(recorded):
    """Other tests use the same recorded sessions."""
    yield
    recorded.to_client[-1][0]()


def test_honest_messages_are_taken_after_each_restore(sessions):
    for session, restore, honest, give, _ in sessions.targets():
        restore()
        sessions.fresh_counter()
        before = session._state
        give(honest)
        assert session._state is not before


def test_an_outsiders_messages_change_nothing(sessions, mutator):
    assert outsider(sessions, mutator(11), QUICK_OUTSIDER) < 1.0


def test_an_insiders_messages_end_in_an_answer_or_a_protocol_error(sessions, mutator):
    slowest, ends = insider(sessions, mutator(12), QUICK_INSIDER)
    assert slowest < 1.0
    assert ends["refused"] > 100
    assert ends["aborted"] > 100


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 64, bytes(10_000), None, 3, "text"])
def test_what_is_no_message_at_all(sessions, data):
    for session, restore, _, give, _ in sessions.targets():
        restore()
        before = session._state
        with pytest.raises(ProtocolError):
            give(data)
        assert session._state is before


@pytest.mark.slow
def test_a_hundred_and_eighty_thousand_outsiders_messages(sessions, mutator):
    assert outsider(sessions, mutator(13), LONG_OUTSIDER) < 1.0


@pytest.mark.slow
def test_a_hundred_and_twenty_thousand_insiders_messages(sessions, mutator):
    slowest, ends = insider(sessions, mutator(14), LONG_INSIDER)
    assert slowest < 1.0
    assert min(ends.values()) > 1000
