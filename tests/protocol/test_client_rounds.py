"""From R2 on: what a lying dealer or server may not do to a site."""

import dataclasses

import pytest

from protocol import SERVER, Identity, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.messages import (
    Complaint,
    Envelope,
    RoundResult,
    ShareDelivery,
    SurvivorList,
    seal,
)

ME, DEALER = "site-000", "site-001"


@pytest.fixture
def members(federation):
    return federation()


def body_of(data):
    return bytes(Envelope.parse(data, peer="x", max_size=len(data)).body)


def at_stage(simulation, members, stage):
    attempt = simulation.Round(members)
    for _ in range(stage):
        attempt.step()
    return attempt


def changed(members, attempt, kind, **changes):
    """The server's message to ``ME`` with fields of its body replaced, signed by the server."""
    data = attempt.outbound[ME]
    body = kind.decode(body_of(data), peer=SERVER, max_members=100)
    return members.reseal(SERVER, data, body=dataclasses.replace(body, **changes).encode())


@pytest.mark.parametrize("lie", ["unreadable", "wrong_shares"])
def test_a_dealer_whose_share_is_unusable_is_accused(simulation, members, liars, lie):
    """Signed and bound as it should be; only what is sealed for one holder is something else."""
    attempt = at_stage(simulation, members, 1)
    for id, data in attempt.outbound.items():
        reply = attempt.answer(id, data)
        if id == DEALER:
            reply = getattr(liars.Dealer(members, attempt.clients[id], reply), lie)(ME)
        attempt.server.receive(id, reply)
    step = attempt.clients[ME].receive(attempt.server.close_stage().outbound[ME])
    assert Complaint.decode(body_of(step.outbound), peer=ME).delivered.dealer == DEALER
    assert attempt.clients[ME].state == "Aborted"


def test_shares_of_two_dealers_cannot_be_exchanged(simulation, members):
    attempt = at_stage(simulation, members, 2)
    delivery = ShareDelivery.decode(body_of(attempt.outbound[ME]), peer=SERVER, max_members=5)
    first, second, *rest = delivery.shares
    swapped = (
        dataclasses.replace(second, dealer=first.dealer),
        dataclasses.replace(first, dealer=second.dealer),
        *rest,
    )
    with pytest.raises(SessionAborted, match="signature") as caught:
        attempt.clients[ME].receive(changed(members, attempt, ShareDelivery, shares=swapped))
    assert caught.value.culprits == (SERVER,)


@pytest.mark.parametrize(
    "dealers",
    [
        ("site-000", "site-001", "site-002"),
        ("site-001", "site-002", "site-003", "site-004"),
        ("site-000", "site-001", "site-002", "site-003", "zombie"),
    ],
)
def test_an_unsafe_set_of_dealers_ends_the_session(simulation, members, dealers):
    attempt = at_stage(simulation, members, 2)
    with pytest.raises(SessionAborted):
        attempt.clients[ME].receive(changed(members, attempt, ShareDelivery, dealers=dealers))


def test_a_survivor_list_for_another_h2_is_not_signed(simulation, members):
    attempt = at_stage(simulation, members, 3)
    with pytest.raises(SessionAborted, match="h2"):
        attempt.clients[ME].receive(changed(members, attempt, SurvivorList, h2=bytes(32)))
    assert members.counters[ME].last_signed_round() == -1


@pytest.mark.parametrize(
    "change", [{"h2": bytes(32)}, {"survivors": ("site-000", "site-001")}], ids=["h2", "set"]
)
def test_a_result_over_another_set_is_refused(simulation, members, change):
    attempt = at_stage(simulation, members, 5)
    with pytest.raises(SessionAborted, match="another set"):
        attempt.clients[ME].receive(changed(members, attempt, RoundResult, **change))


def test_a_finished_session_stays_finished_whatever_comes(simulation, members):
    attempt = at_stage(simulation, members, 5)
    client, result = attempt.clients[ME], attempt.outbound[ME]
    client.receive(result)
    other = changed(members, attempt, RoundResult, sum_digest=bytes(32))
    foreign = members.reseal(SERVER, result, context=bytes(32))
    for data, reason in (
        (other, Misbehaviour.EQUIVOCATION),
        (foreign, Misbehaviour.FOREIGN_CONTEXT),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            client.receive(data)
        assert caught.value.reason is reason
    assert client.receive(result).outbound == b""
    assert client.state == "Finished"


def test_a_site_whose_signature_came_late_still_learns_the_result(simulation, members):
    attempt = at_stage(simulation, members, 3)
    attempt.step(lost=[ME])
    attempt.step()
    assert attempt.clients[ME].state == "Signed"
    step = attempt.clients[ME].receive(attempt.outbound[DEALER])
    assert step.events[0].transcript_hash == attempt.completed.transcript_hash
    assert attempt.clients[ME].state == "Finished"


def test_only_the_server_may_speak_as_the_server(simulation, members):
    attempt = at_stage(simulation, members, 1)
    as_site = Identity(DEALER, seed=members.server_identity.export_seed())
    data = attempt.outbound[ME]
    context = members.spec.context
    for who in (as_site, members.identities[DEALER]):
        forged = seal(who, label=b"FSA2/msg/r1-key-directory", context=context, body=body_of(data))
        with pytest.raises(RemoteProtocolError) as caught:
            attempt.clients[ME].receive(forged)
        assert caught.value.reason is Misbehaviour.UNKNOWN_SENDER
    unknown = seal(members.server_identity, label=b"FSA2/msg/r9", context=context, body=b"")
    with pytest.raises(RemoteProtocolError, match="unknown kind"):
        attempt.clients[ME].receive(unknown)


def test_an_offer_under_another_context_is_refused(members):
    client = members.client(ME)
    offer = members.server().start().outbound[ME]
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(members.reseal(SERVER, offer, context=bytes(32)))
    assert caught.value.reason is Misbehaviour.FOREIGN_CONTEXT
    assert client.state == "Idle"


@pytest.fixture
def sparse(federation):
    return federation(24, collusion=0.1, degree=12, share_threshold=7)


def test_a_server_cannot_isolate_a_site_on_a_sparse_graph_by_its_dealers(simulation, sparse):
    attempt = at_stage(simulation, sparse, 2)
    client = attempt.clients[ME]
    around = client._state.graph.of(ME)
    dealers = tuple(id for id in sparse.ids if id not in around[:6])
    assert len(dealers) >= sparse.spec.quorum
    body = ShareDelivery.decode(body_of(attempt.outbound[ME]), peer=SERVER, max_members=24)
    kept = tuple(share for share in body.shares if share.dealer in dealers)
    with pytest.raises(SessionAborted, match="neighbours"):
        client.receive(changed(sparse, attempt, ShareDelivery, dealers=dealers, shares=kept))


def test_a_server_cannot_isolate_a_site_on_a_sparse_graph_by_its_survivors(simulation, sparse):
    attempt = at_stage(simulation, sparse, 3)
    client = attempt.clients[ME]
    around = sorted(client._state.neighbours)
    survivors = tuple(id for id in sparse.ids if id not in around[:6])
    assert len(survivors) >= sparse.spec.quorum
    with pytest.raises(SessionAborted, match="neighbours"):
        client.receive(changed(sparse, attempt, SurvivorList, survivors=survivors))
    assert sparse.counters[ME].last_signed_round() == -1
