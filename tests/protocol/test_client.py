"""A site's session: which messages move it, which it refuses, and which end it."""

import dataclasses
import os

import pytest

from protocol import (
    AbortReason,
    InMemoryRoundCounter,
    LocalProtocolError,
    Misbehaviour,
    RemoteProtocolError,
    SessionAborted,
)
from protocol.client import CLIENT_TABLE
from protocol.events import IgnoreReason, MessageIgnored
from protocol.messages import (
    Complaint,
    Envelope,
    KeyDirectory,
    ShareDelivery,
    SignatureQuorum,
    SurvivorList,
)

ME = "site-000"


@pytest.fixture
def members(federation):
    return federation()


def at_stage(simulation, members, stage):
    """A round whose server has just sent the messages of ``stage``."""
    attempt = simulation.Round(members)
    for _ in range(stage):
        attempt.step()
    return attempt


def forged(members, attempt, change):
    """The server's next message to ``ME`` with a changed body, signed by the server."""
    data = attempt.outbound[ME]
    body = bytes(Envelope.parse(data, peer="server", max_size=len(data)).body)
    return members.reseal("server", data, body=change(body))


def test_every_state_of_the_table_is_left_or_final():
    sources = {state for state, _ in CLIENT_TABLE}
    targets = {target for move in CLIENT_TABLE.values() for target in move.to}
    assert {t.__name__ for t in targets - sources} == {"Finished", "Aborted"}
    assert {s.__name__ for s in sources - targets} == {"Idle"}


def test_calls_out_of_order_are_the_drivers_mistake_and_change_nothing(members):
    client = members.client(ME)
    for call in (lambda: client.accept_model(b""), lambda: client.provide_input(None)):
        with pytest.raises(LocalProtocolError, match="not possible in state Idle"):
            call()
    assert client.state == "Idle"


def test_a_wrong_model_is_refused_and_the_right_one_is_still_welcome(simulation, members):
    client = members.client(ME)
    client.receive(members.server().start().outbound[ME])
    for bad in (b"", simulation.MODEL + b"\x00"):
        with pytest.raises(RemoteProtocolError) as caught:
            client.accept_model(bad)
        assert caught.value.reason is Misbehaviour.WRONG_MODEL
    assert client.accept_model(simulation.MODEL).outbound


def test_the_key_directory_must_wait_for_the_input(simulation, members):
    attempt = at_stage(simulation, members, 1)
    client = members.client(ME)
    client.receive(members.server().start().outbound[ME])
    client.accept_model(simulation.MODEL)
    with pytest.raises(LocalProtocolError, match="provide_input"):
        client.receive(attempt.outbound[ME])
    client.provide_input(members.words(ME), extra=members.extra_words(ME))
    assert client.receive(attempt.outbound[ME]).outbound


@pytest.mark.parametrize("stage", range(6))
def test_what_the_server_did_not_sign_changes_nothing_in_any_state(simulation, members, stage):
    attempt = at_stage(simulation, members, stage)
    client, data = attempt.clients[ME], attempt.outbound[ME]
    state = client.state
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1
        for bad in (bytes(flipped), data[:place]):
            with pytest.raises(RemoteProtocolError):
                client.receive(bad)
    own = attempt.log[0][3] if attempt.log else b""
    with pytest.raises(RemoteProtocolError):
        client.receive(own)
    assert client.state == state
    client.receive(data)


@pytest.mark.parametrize("stage", range(1, 6))
def test_messages_of_another_attempt_change_nothing(simulation, members, stage):
    other = simulation.Round(members, spec=members.spec.next_attempt(cohort=members.ids))
    for _ in range(stage):
        other.step()
    members.counters[ME]._last = -1
    for id in members.ids:
        members.counters[id]._last = -1
    attempt = at_stage(simulation, members, stage)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.clients[ME].receive(other.outbound[ME])
    assert caught.value.reason is Misbehaviour.FOREIGN_CONTEXT
    attempt.clients[ME].receive(attempt.outbound[ME])


@pytest.mark.parametrize("stage", range(6))
def test_a_repeated_message_is_ignored(simulation, members, stage):
    attempt = at_stage(simulation, members, stage)
    client, data = attempt.clients[ME], attempt.outbound[ME]
    attempt.answer(ME, data)
    if stage == 0:
        return
    step = client.receive(data)
    ignored = MessageIgnored(peer="server", reason=IgnoreReason.DUPLICATE)
    assert (step.outbound, step.events) == (b"", (ignored,))


@pytest.mark.parametrize(
    ("stage", "state"), [(1, "Shared"), (2, "Masked"), (3, "Signed"), (4, "Unmasked")]
)
def test_a_second_different_message_of_a_stage_ends_the_session(simulation, members, stage, state):
    attempt = at_stage(simulation, members, stage)
    client = attempt.clients[ME]
    attempt.answer(ME, attempt.outbound[ME])
    assert client.state == state
    with pytest.raises(SessionAborted, match="two different messages"):
        client.receive(forged(members, attempt, lambda body: body + b"\x00"))
    with pytest.raises(SessionAborted, match="two different messages"):
        client.receive(attempt.outbound[ME])
    assert client.state == "Aborted"
    assert client.is_over


def test_a_message_before_its_time_changes_nothing(simulation, members):
    attempt = at_stage(simulation, members, 1)
    later = at_stage(simulation, members, 3)
    for id in members.ids:
        members.counters[id]._last = -1
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.clients[ME].receive(later.outbound[ME])
    assert caught.value.reason is Misbehaviour.UNEXPECTED_MESSAGE
    assert attempt.clients[ME].state == "Ready"


def directory_changes(entries):
    """Key directories that an honest server would not send."""
    own, first, *rest = entries
    return {
        "own entry left out": entries[1:],
        "unsorted": [first, own, *rest],
        "repeated": [own, own, *entries[1:]],
        "below the quorum": entries[:3],
        "empty": [],
        "not an advertisement": [own, b"noise", *rest],
        "truncated": [own, first[:-1], *rest],
    }


@pytest.mark.parametrize("name", directory_changes([b""] * 5))
def test_a_key_directory_that_breaks_a_rule_ends_the_session(simulation, members, name):
    attempt = at_stage(simulation, members, 1)

    def change(body):
        entries = KeyDirectory.decode(body, peer="server", max_members=5).advertisements
        return KeyDirectory(advertisements=directory_changes(list(entries))[name]).encode()

    with pytest.raises(SessionAborted) as caught:
        attempt.clients[ME].receive(forged(members, attempt, change))
    assert caught.value.reason is AbortReason.SERVER_MISBEHAVED
    assert caught.value.culprits == ("server",)


@pytest.mark.parametrize("lie", ["unreadable", "wrong_shares"])
def test_an_unusable_share_is_answered_by_a_complaint(simulation, members, liars, lie):
    attempt = at_stage(simulation, members, 1)
    for id, data in attempt.outbound.items():
        reply = attempt.answer(id, data)
        if id == "site-001":
            reply = getattr(liars.Dealer(members, attempt.clients[id], reply), lie)(ME)
        attempt.server.receive(id, reply)
    attempt.outbound = attempt.server.close_stage().outbound
    client = attempt.clients[ME]
    step = client.receive(attempt.outbound[ME])
    complaint = Envelope.parse(step.outbound, peer=ME, max_size=10_000)
    assert complaint.label == Complaint.LABEL
    assert Complaint.decode(complaint.body, peer=ME).delivered.dealer == "site-001"
    assert step.events[0].culprit == "site-001"
    assert client.state == "Aborted"
    with pytest.raises(SessionAborted) as caught:
        attempt.server.receive(ME, step.outbound)
    assert caught.value.culprits == ("site-001",)
    assert caught.value.retry_allowed


@pytest.mark.parametrize("left_out", [0, 1, -1])
def test_shares_that_were_not_delivered_end_the_session(simulation, members, left_out):
    attempt = at_stage(simulation, members, 2)

    def change(body):
        delivery = ShareDelivery.decode(body, peer="server", max_members=5)
        shares = list(delivery.shares)
        del shares[left_out]
        return dataclasses.replace(delivery, shares=tuple(shares)).encode()

    with pytest.raises(SessionAborted, match="inconsistent set"):
        attempt.clients[ME].receive(forged(members, attempt, change))


@pytest.mark.parametrize(
    "survivors",
    [
        ("site-000",),
        ("site-000", "site-001", "site-002"),
        ("site-001", "site-002", "site-003", "site-004"),
        ("site-000", "site-001", "site-002", "zombie"),
        (),
    ],
)
def test_an_unsafe_survivor_set_is_not_signed(simulation, members, survivors):
    attempt = at_stage(simulation, members, 3)

    def change(body):
        listed = SurvivorList.decode(body, peer="server", max_members=5)
        return dataclasses.replace(listed, survivors=survivors).encode()

    with pytest.raises(SessionAborted):
        attempt.clients[ME].receive(forged(members, attempt, change))
    assert members.counters[ME].last_signed_round() == -1


def test_a_round_is_signed_by_one_session_only(simulation, members):
    """Two attempts run side by side; the second one to reach R3 is refused."""
    spec = members.spec.next_attempt(cohort=members.ids)
    first = at_stage(simulation, members, 3)
    second = simulation.Round(members, spec=spec, attempt=1)
    for _ in range(3):
        second.step()
    first.answer(ME, first.outbound[ME])
    with pytest.raises(SessionAborted) as caught:
        second.answer(ME, second.outbound[ME])
    assert caught.value.reason is AbortReason.ROUND_ALREADY_SIGNED
    assert not caught.value.retry_allowed


@pytest.mark.parametrize("last", [3, 4, 2**40])
def test_a_round_that_was_signed_before_a_restart_is_refused(members, last):
    client = members.client(ME, counter=InMemoryRoundCounter(last))
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(members.server().start().outbound[ME])
    assert caught.value.reason is Misbehaviour.ROUND_REPLAYED


class BrokenCounter(InMemoryRoundCounter):
    def record_signed_round(self, round_number, survivors):
        raise OSError("disk full")


def test_no_signature_leaves_when_the_counter_cannot_be_written(simulation, members):
    clients = {id: members.client(id) for id in members.ids}
    clients[ME] = members.client(ME, counter=BrokenCounter())
    attempt = simulation.Round(members, clients=clients)
    for _ in range(3):
        attempt.step()
    with pytest.raises(OSError, match="disk full"):
        clients[ME].receive(attempt.outbound[ME])
    assert clients[ME].state == "Aborted"


@pytest.mark.parametrize("kind", ["too few", "repeated", "stranger", "wrong", "none"])
def test_shares_are_revealed_only_to_a_quorum_of_valid_signatures(simulation, members, kind):
    attempt = at_stage(simulation, members, 4)

    def change(body):
        signed = SignatureQuorum.decode(body, peer="server", max_members=5).signatures
        bad = {
            "too few": signed[:3],
            "repeated": (signed[0],) * 5,
            "stranger": (*signed[:4], ("zombie", signed[4][1])),
            "wrong": (*signed[:4], (signed[4][0], signed[3][1])),
            "none": (),
        }[kind]
        return SignatureQuorum(signatures=bad).encode()

    client = attempt.clients[ME]
    with pytest.raises(SessionAborted):
        client.receive(forged(members, attempt, change))
    with pytest.raises(SessionAborted):
        client.receive(attempt.outbound[ME])


def test_the_next_round_must_name_the_last_result(simulation, members):
    client = members.client(ME, previous=simulation.digest("another history"))
    with pytest.raises(RemoteProtocolError, match="previous"):
        client.receive(members.server().start().outbound[ME])
    client = members.client(ME, previous=simulation.digest("previous"))
    client.receive(members.server().start().outbound[ME])


def test_a_forked_child_cannot_use_the_session(members):
    client = members.client(ME)
    data = members.server().start().outbound[ME]
    child = os.fork()
    if child == 0:
        try:
            client.receive(data)
        except LocalProtocolError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.receive(data).events


def test_abort_ends_a_session_and_a_finished_one_stays_finished(simulation, members):
    attempt = at_stage(simulation, members, 2)
    attempt.clients[ME].abort()
    with pytest.raises(SessionAborted, match="cancelled"):
        attempt.clients[ME].receive(attempt.outbound[ME])
    done = simulation.Round(members)
    done.run()
    done.clients[ME].abort()
    assert done.clients[ME].state == "Finished"
