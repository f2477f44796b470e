"""The server's session: one bad site is named and falls out, the round goes on."""

import dataclasses

import pytest

from protocol import (
    LocalProtocolError,
    Misbehaviour,
    RemoteProtocolError,
    ServerSession,
    SessionAborted,
)
from protocol.commitments import ShareKind
from protocol.events import IgnoreReason, MessageIgnored, StageClosed
from protocol.messages import (
    AdvertiseKeys,
    Complaint,
    ConsistencyCheck,
    Envelope,
    ShareKeys,
    Unmask,
)
from protocol.server import SERVER_TABLE
from protocol.words import centre

BAD = "site-004"


@pytest.fixture
def members(federation):
    return federation()


def body_of(data):
    return bytes(Envelope.parse(data, peer="x", max_size=len(data)).body)


def answers(attempt):
    """What every site says to the present messages, not yet handed to the server."""
    return {id: attempt.answer(id, data) for id, data in attempt.outbound.items()}


def go_on(attempt, replies, *, refused=BAD, reason):
    """Hand in all replies; only that of ``refused`` is refused, by name; then play to the end."""
    for id, data in replies.items():
        if id != refused:
            attempt.server.receive(id, data)
            continue
        with pytest.raises(RemoteProtocolError) as caught:
            attempt.server.receive(id, data)
        assert (caught.value.peer, caught.value.reason) == (refused, reason)
    assert attempt.server.excluded == {refused: reason}
    assert not attempt.server.waiting_for
    step = attempt.server.close_stage()
    attempt.events.append(("server", step.events))
    attempt.outbound, attempt.stage = step.outbound, attempt.stage + 1
    # The result goes to all who signed; everything before it only to who is still in.
    assert attempt.server.state == "Completed" or refused not in attempt.outbound
    attempt.run(absent={attempt.stage: [refused]})
    completed = attempt.completed
    words = [int(w) for w in centre(completed.words, word_bits=32)] + list(completed.extra)
    assert words == attempt.federation.expected(completed.survivors)
    return completed


def advance(simulation, members, stage):
    attempt = simulation.Round(members)
    for _ in range(stage):
        attempt.step()
    return attempt


def test_every_state_of_the_table_is_left_or_final():
    sources = {state for state, _ in SERVER_TABLE}
    targets = {target for move in SERVER_TABLE.values() for target in move.to}
    assert {t.__name__ for t in targets - sources} == {"Completed", "Aborted"}
    assert {s.__name__ for s in sources - targets} == {"Planned"}


def test_identity_roster_and_spec_must_belong_together(federation, members):
    other = federation(seed=b"other")
    with pytest.raises(ValueError, match="roster's server"):
        ServerSession(other.server_identity, roster=members.roster, spec=members.spec)
    with pytest.raises(ValueError, match="roster's server"):
        ServerSession(members.identities[BAD], roster=members.roster, spec=members.spec)
    with pytest.raises(ValueError, match="for this roster"):
        ServerSession(members.server_identity, roster=members.roster, spec=other.spec)
    stranger = dataclasses.replace(members.spec, cohort=(*members.ids[:4], "zombie"))
    with pytest.raises(ValueError, match="roster members"):
        ServerSession(members.server_identity, roster=members.roster, spec=stranger)


def test_calls_out_of_order_are_the_drivers_mistake(members):
    server = members.server()
    with pytest.raises(LocalProtocolError, match="close_stage is not possible"):
        server.close_stage()
    server.start()
    with pytest.raises(LocalProtocolError, match="start is not possible"):
        server.start()


def test_stages_say_who_answered_and_who_is_missing(simulation, members):
    attempt = simulation.Round(members)
    assert attempt.server.waiting_for == set(members.ids)
    closed = attempt.step(absent=[BAD]).events[0]
    assert closed == StageClosed(stage="advertise", answered=members.ids[:4], missing=(BAD,))
    assert attempt.server.waiting_for == set(members.ids[:4])


@pytest.mark.parametrize("stage", range(5))
def test_forged_and_garbled_messages_cannot_get_an_honest_site_out(simulation, members, stage):
    attempt = advance(simulation, members, stage)
    replies = answers(attempt)
    good = replies[BAD]
    others_signature = members.reseal("site-001", good)
    for place in range(0, len(good), 11):
        flipped = bytearray(good)
        flipped[place] ^= 1
        for bad in (bytes(flipped), good[:place]):
            with pytest.raises(RemoteProtocolError):
                attempt.server.receive(BAD, bad)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(BAD, others_signature)
    assert caught.value.reason is Misbehaviour.UNKNOWN_SENDER
    assert attempt.server.excluded == {}
    for id, data in replies.items():
        attempt.server.receive(id, data)
    assert not attempt.server.waiting_for


@pytest.mark.parametrize("stage", range(5))
def test_repeated_messages_count_once_and_late_ones_not_at_all(simulation, members, stage):
    attempt = advance(simulation, members, stage)
    replies = answers(attempt)
    late = replies.pop(BAD)
    for id, data in replies.items():
        attempt.server.receive(id, data)
        step = attempt.server.receive(id, data)
        assert step.events == (MessageIgnored(peer=id, reason=IgnoreReason.DUPLICATE),)
    step = attempt.server.close_stage()
    attempt.events.append(("server", step.events))
    attempt.outbound, attempt.stage = step.outbound, stage + 1
    step = attempt.server.receive(BAD, late)
    assert step.events == (MessageIgnored(peer=BAD, reason=IgnoreReason.LATE),)
    completed = attempt.run(absent={stage + 1: [BAD]})
    words = [int(w) for w in centre(completed.words, word_bits=32)] + list(completed.extra)
    assert words == members.expected(completed.survivors)


def test_a_message_before_its_time_is_refused(simulation, members):
    attempt = advance(simulation, members, 1)
    early = members.reseal(BAD, attempt.log[0][3], label=Unmask.LABEL)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(BAD, early)
    assert caught.value.reason is Misbehaviour.UNEXPECTED_MESSAGE


def test_a_site_outside_the_cohort_is_refused(simulation, members):
    spec = dataclasses.replace(members.spec, cohort=members.ids[:4])
    server = members.server(spec)
    server.start()
    data = advance(simulation, members, 1).log[-1][3]
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(BAD, data)
    assert caught.value.reason is Misbehaviour.UNKNOWN_SENDER


def test_two_different_signed_messages_of_a_stage_are_equivocation(simulation, members):
    attempt = advance(simulation, members, 0)
    replies = answers(attempt)
    attempt.server.receive(BAD, replies[BAD])
    other = AdvertiseKeys(mask_key=b"\x05" * 32, channel_key=b"\x06" * 32).encode()
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(BAD, members.reseal(BAD, replies[BAD], body=other))
    assert caught.value.reason is Misbehaviour.EQUIVOCATION


@pytest.mark.parametrize("kind", ["small order", "not canonical", "twice", "another site's"])
def test_unsafe_keys_put_their_sender_out(simulation, members, kind):
    attempt = advance(simulation, members, 0)
    replies = answers(attempt)
    fine = AdvertiseKeys.decode(body_of(replies["site-000"]), peer="x")
    keys = {
        "small order": (bytes(32), fine.channel_key),
        "not canonical": (b"\xff" * 32, b"\x07" * 32),
        "twice": (b"\x07" * 32, b"\x07" * 32),
        "another site's": (fine.channel_key, b"\x07" * 32),
    }[kind]
    bad = AdvertiseKeys(mask_key=keys[0], channel_key=keys[1]).encode()
    replies[BAD] = members.reseal(BAD, replies[BAD], body=bad)
    completed = go_on(attempt, replies, reason=Misbehaviour.BAD_PUBLIC_KEY)
    assert completed.survivors == members.ids[:4]


@pytest.mark.parametrize("kind", ["one too few", "another order", "another h1"])
def test_a_dealing_that_leaves_somebody_out_puts_its_sender_out(simulation, members, kind):
    attempt = advance(simulation, members, 1)
    replies = answers(attempt)
    dealt = ShareKeys.decode(body_of(replies[BAD]), peer=BAD, max_shares=5)
    changes, reason = {
        "one too few": ({"shares": dealt.shares[1:]}, Misbehaviour.BAD_MEMBER_SET),
        "another order": ({"shares": dealt.shares[::-1]}, Misbehaviour.BAD_MEMBER_SET),
        "another h1": (
            {"head": dataclasses.replace(dealt.head, h1=bytes(32))},
            Misbehaviour.FOREIGN_CONTEXT,
        ),
    }[kind]
    bad = dataclasses.replace(dealt, **changes).encode()
    replies[BAD] = members.reseal(BAD, replies[BAD], body=bad)
    assert go_on(attempt, replies, reason=reason).survivors == members.ids[:4]


def test_an_input_for_another_h2_puts_its_sender_out(simulation, members):
    attempt = advance(simulation, members, 2)
    replies = answers(attempt)
    body = bytearray(body_of(replies[BAD]))
    body[4] ^= 1
    replies[BAD] = members.reseal(BAD, replies[BAD], body=bytes(body))
    completed = go_on(attempt, replies, reason=Misbehaviour.FOREIGN_CONTEXT)
    assert completed.survivors == members.ids[:4]


def test_who_signs_another_survivor_set_is_out_but_its_input_stays_in_the_sum(simulation, members):
    attempt = advance(simulation, members, 3)
    replies = answers(attempt)
    other = ConsistencyCheck(h2=bytes(32), survivors=members.ids).encode()
    replies[BAD] = members.reseal(BAD, replies[BAD], body=other)
    completed = go_on(attempt, replies, reason=Misbehaviour.EQUIVOCATION)
    assert completed.survivors == members.ids


@pytest.mark.parametrize("kind", ["wrong value", "wrong kind", "one too few"])
def test_who_reveals_a_wrong_share_is_named_and_the_sum_is_still_exact(simulation, members, kind):
    attempt = advance(simulation, members, 4)
    replies = answers(attempt)
    unmask = Unmask.decode(body_of(replies[BAD]), peer=BAD, max_shares=5)
    shares = list(unmask.shares)
    if kind == "wrong value":
        shares[1] = dataclasses.replace(shares[1], share=bytes(32))
    elif kind == "wrong kind":
        shares[1] = dataclasses.replace(shares[1], kind=ShareKind.MASK_KEY)
    else:
        del shares[1]
    bad = dataclasses.replace(unmask, shares=tuple(shares)).encode()
    replies[BAD] = members.reseal(BAD, replies[BAD], body=bad)
    reason = Misbehaviour.BAD_MEMBER_SET if kind == "one too few" else Misbehaviour.BAD_SHARE
    assert go_on(attempt, replies, reason=reason).survivors == members.ids


def test_a_dealing_of_another_secret_is_refused_before_anything_is_masked(
    simulation, members, liars
):
    attempt = advance(simulation, members, 1)
    replies = answers(attempt)
    dealer = liars.Dealer(members, attempt.clients[BAD], replies[BAD])
    replies[BAD] = dealer.other_secret("mask_key")
    completed = go_on(attempt, replies, reason=Misbehaviour.BAD_DEALING)
    assert completed.survivors == tuple(id for id in members.ids if id != BAD)


def test_an_accusation_of_somebody_who_dealt_nothing_is_refused(simulation, members, liars):
    attempt = advance(simulation, members, 2)
    complaint, _ = liars.false_complaint(
        members, attempt.clients[BAD], attempt.outbound[BAD], "site-000"
    )
    other = dataclasses.replace(complaint.delivered, dealer="site-009")
    body = dataclasses.replace(complaint, delivered=other).encode()
    lie = members.reseal(BAD, attempt.log[0][3], label=Complaint.LABEL, body=body)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(BAD, lie)
    assert caught.value.peer == BAD
    attempt.run(absent={2: [BAD]})


def test_a_session_that_is_over_says_why_for_ever(simulation, members):
    attempt = advance(simulation, members, 0)
    with pytest.raises(SessionAborted, match="0 answered, 4 are needed"):
        attempt.server.close_stage()
    with pytest.raises(SessionAborted, match="0 answered, 4 are needed"):
        attempt.server.receive(BAD, b"")
    assert attempt.server.waiting_for == frozenset()


def test_a_completed_session_takes_nothing_more(simulation, members):
    attempt = simulation.Round(members)
    attempt.run()
    late = attempt.log[-1][2]
    with pytest.raises(RemoteProtocolError):
        attempt.server.receive("site-000", late)
    with pytest.raises(LocalProtocolError):
        attempt.server.close_stage()
    assert attempt.server.state == "Completed"
