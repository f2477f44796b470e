"""Attacks that are in no list: sparse graphs, false complaints, two results, offers on top."""

import dataclasses

import pytest

from protocol import LocalProtocolError, SessionAborted
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.events import RoundFinished
from protocol.graph import Neighbourhoods
from protocol.messages import Envelope, RoundResult


@pytest.fixture
def sparse(hostile, federation):
    """Twelve sites, each with six neighbours of which five must stay."""
    return hostile(federation(12, degree=6, share_threshold=5, collusion=0.1)).join()


def test_a_victim_whose_neighbours_did_not_deal_masks_nothing(sparse, aborts):
    sparse.deal()
    victim = sparse.federation.ids[0]
    graph = Neighbourhoods(list(sparse.clients), degree=6, h1=sparse.h1)
    around = graph.of(victim)
    dealers = sorted(set(sparse.clients) - set(around[:2]))
    assert len(dealers) >= sparse.spec.quorum
    shares = [sparse.share_for(victim, v) for v in around[2:]]
    data = sparse.delivery(victim, dealers=dealers, shares=shares)
    aborts(sparse.clients[victim], data, Misbehaviour.BELOW_QUORUM)


def test_a_victim_whose_neighbours_dropped_out_signs_nothing(sparse, aborts):
    sparse.deal()
    victim = sparse.federation.ids[0]
    graph = Neighbourhoods(list(sparse.clients), degree=6, h1=sparse.h1)
    for id in sparse.clients:
        shares = [sparse.share_for(id, v) for v in graph.of(id)]
        sparse.clients[id].receive(sparse.delivery(id, shares=shares))
    gone = graph.of(victim)[:2]
    alive = sorted(set(sparse.clients) - set(gone))
    assert len(alive) >= sparse.spec.quorum
    aborts(sparse.clients[victim], sparse.survivors(alive), Misbehaviour.BELOW_QUORUM)


@pytest.mark.parametrize("accused", ["site-000", "nobody", "server"])
def test_a_complaint_about_a_site_that_dealt_nothing_hurts_only_its_author(
    federation, simulation, liars, accused
):
    attempt = simulation.Round(federation())
    attempt.step()
    attempt.step()
    liar, *others = attempt.federation.ids
    complaint, _ = liars.false_complaint(
        attempt.federation, attempt.clients[liar], attempt.outbound[liar], others[0]
    )
    other = dataclasses.replace(complaint.delivered, dealer=accused)
    complaint = dataclasses.replace(complaint, delivered=other)
    honest = attempt.answer(liar, attempt.outbound[liar])
    data = liars.complaint_message(attempt.federation, complaint, liar, honest)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(liar, data)
    assert caught.value.peer == liar
    assert set(attempt.server.excluded) == {liar}
    for id in others:
        attempt.server.receive(id, attempt.answer(id, attempt.outbound[id]))
    assert attempt.server.close_stage().events


def test_a_masked_input_and_a_complaint_of_one_site_are_not_both_taken(
    federation, simulation, liars
):
    attempt = simulation.Round(federation())
    attempt.step()
    attempt.step()
    liar, accused = attempt.federation.ids[:2]
    complaint, _ = liars.false_complaint(
        attempt.federation, attempt.clients[liar], attempt.outbound[liar], accused
    )
    honest = attempt.answer(liar, attempt.outbound[liar])
    attempt.server.receive(liar, honest)
    data = liars.complaint_message(attempt.federation, complaint, liar, honest)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(liar, data)
    assert caught.value.reason is Misbehaviour.UNEXPECTED_MESSAGE
    assert attempt.server.state == "Masking"


def test_two_sites_that_were_told_different_results_do_not_meet_again(hostile, federation):
    # Each takes the result it was given; the next round can name only one of the two pasts.
    members = federation()
    server = hostile(members).join().deal().mask().sign().unmask()
    pasts = {}
    digests = dict.fromkeys(members.ids, b"1" * 32) | {members.ids[1]: b"2" * 32}
    for id, digest in digests.items():
        result = RoundResult(h2=server.h2(), survivors=members.ids, sum_digest=digest)
        (event,) = server.clients[id].receive(server.say(result)).events
        assert isinstance(event, RoundFinished)
        pasts[id] = event.transcript_hash
    assert len(set(pasts.values())) == 2
    first, second = members.ids[:2]
    spec = dataclasses.replace(members.spec, round=4, previous=pasts[first])
    after = hostile(members, spec=spec)
    assert members.client(first, previous=pasts[first]).receive(after.offer()).events
    with pytest.raises(RemoteProtocolError, match="previous"):
        members.client(second, previous=pasts[second]).receive(after.offer())


def test_a_result_over_another_set_is_refused(hostile, aborts):
    server = hostile().join().deal().mask().sign().unmask()
    ids = server.federation.ids
    result = RoundResult(h2=server.h2(), survivors=ids[:4], sum_digest=bytes(32))
    aborts(server.clients[ids[0]], server.say(result), Misbehaviour.EQUIVOCATION)


@pytest.mark.parametrize("stage", ["join", "deal", "mask", "sign"])
def test_a_better_offer_in_the_middle_of_a_round_ends_it(hostile, federation, stage):
    server = hostile()
    for name in ("join", "deal", "mask", "sign"):
        getattr(server, name)()
        if name == stage:
            break
    client = server.clients[server.federation.ids[0]]
    state = client.state
    other = hostile(federation(), spec=dataclasses.replace(server.spec, attempt=1))
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(other.offer())
    assert caught.value.reason is Misbehaviour.FOREIGN_CONTEXT
    assert client.state == state


def test_an_input_cannot_be_replaced_after_it_was_given(hostile):
    server = hostile().join()
    id = server.federation.ids[0]
    with pytest.raises(LocalProtocolError):
        server.clients[id].provide_input(server.federation.words(id), extra=[1])


def test_changing_the_callers_array_later_changes_nothing(hostile, federation):
    members = federation()
    arrays = {id: members.words(id) for id in members.ids}
    server = hostile(members).join(words=arrays)
    honest = hostile(federation()).join()
    for array in arrays.values():
        array[:] = 0
    for one in (server, honest):
        one.deal().mask()
    for id in members.ids:
        assert bytes(server.uploads[id].packed) == bytes(honest.uploads[id].packed)


def test_a_site_whose_key_is_not_the_rosters_takes_part_in_nothing(federation):
    members = federation()
    impostor = members.identities[members.ids[1]]
    members.identities[members.ids[0]] = type(impostor)(members.ids[0], seed=b"x" * 32)
    with pytest.raises(LocalProtocolError, match="key"):
        members.client(members.ids[0]).receive(members.offer())


def test_one_cancelled_session_answers_nothing_any_more(hostile):
    server = hostile().join().deal().mask().sign()
    client = server.clients[server.federation.ids[0]]
    client.abort()
    with pytest.raises(SessionAborted, match="cancelled"):
        client.receive(server.quorum())
    assert not hasattr(client._state, "reveal")


def test_the_advertisement_is_for_one_attempt_only(hostile, federation, simulation):
    # A recorded advertisement of an earlier attempt is foreign to the honest server too.
    members = federation()
    old = hostile(members).join()
    attempt = members.server(dataclasses.replace(members.spec, attempt=1))
    attempt.start()
    for id, data in old.ads.items():
        with pytest.raises(RemoteProtocolError) as caught:
            attempt.receive(id, data)
        assert caught.value.reason is Misbehaviour.FOREIGN_CONTEXT
        assert Envelope.parse(data, peer=id, max_size=len(data)).sender == id
    assert not attempt.excluded
