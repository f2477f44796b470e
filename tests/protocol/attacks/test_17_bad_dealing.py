"""Attack 17: a dealer's shares do not rebuild its secrets; no mask may ever depend on them."""

import dataclasses

import pytest

from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted
from protocol.events import AttemptEnded
from protocol.group import write_scalar
from protocol.proofs import is_proven

LIAR, VICTIM = "site-001", "site-003"


@pytest.fixture
def dealt(federation, simulation, liars):
    """A round in which everybody but the liar has dealt; the liar may deal as it likes."""

    def make(n=6):
        attempt = simulation.Round(federation(n))
        attempt.step()
        for id, data in attempt.outbound.items():
            answer = attempt.answer(id, data)
            if id != LIAR:
                attempt.server.receive(id, answer)
            else:
                attempt.dealer = liars.Dealer(attempt.federation, attempt.clients[id], answer)
        return attempt

    return make


def off_polynomial(dealer):
    """Honest but for the victim's responses."""
    return dealer.changed(VICTIM, mask_key_response=write_scalar(5))


def degree_too_high(dealer):
    """Shares of one polynomial, which more holders than the threshold are needed to rebuild."""
    return dealer.other_secret(None, threshold=dealer.state.spec.threshold + 1)


def other_mask_key(dealer):
    return dealer.other_secret("mask_key")


def other_challenge(dealer):
    return dealer.signed(challenge=write_scalar(17))


def other_self_mask_point(dealer):
    return dealer.signed(self_mask_point=dealer.state.mask_pair.public)


def no_scalar(dealer):
    return dealer.changed(VICTIM, self_mask_response=b"\xff" * 32)


def commitment_after_the_challenge(dealer):
    return dealer.changed(VICTIM, self_mask_commitment=bytes(32))


def another_root(dealer):
    return dealer.signed(root=bytes(32))


def unsigned_head(dealer):
    body = dataclasses.replace(
        dealer.honest, head=dataclasses.replace(dealer.honest.head, signature=bytes(64))
    )
    return dealer.message(body)


REFUSED = [
    off_polynomial,
    degree_too_high,
    other_mask_key,
    other_challenge,
    other_self_mask_point,
    no_scalar,
    commitment_after_the_challenge,
    another_root,
    unsigned_head,
]


@pytest.mark.parametrize("lie", REFUSED, ids=lambda lie: lie.__name__)
def test_a_dealing_that_is_not_proven_is_refused_and_the_round_goes_on(dealt, lie):
    attempt = dealt()
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(LIAR, lie(attempt.dealer))
    assert (caught.value.peer, caught.value.reason) == (LIAR, Misbehaviour.BAD_DEALING)
    assert attempt.server.excluded == {LIAR: Misbehaviour.BAD_DEALING}
    attempt.outbound, attempt.stage = attempt.server.close_stage().outbound, 2
    assert LIAR not in attempt.outbound
    completed = attempt.run()
    assert completed.survivors == tuple(id for id in attempt.federation.ids if id != LIAR)
    expected = attempt.federation.expected(completed.survivors)
    assert [int(w) for w in completed.words.view("i4")] == expected[: completed.words.size]


@pytest.mark.parametrize("lie", ["unreadable", "wrong_shares"])
def test_a_share_that_its_holder_cannot_use_convicts_the_dealer(dealt, lie):
    attempt = dealt()
    attempt.server.receive(LIAR, getattr(attempt.dealer, lie)(VICTIM))
    attempt.outbound = attempt.server.close_stage().outbound
    victim = attempt.clients[VICTIM]
    step = victim.receive(attempt.outbound[VICTIM])
    assert step.events == (AttemptEnded(reason=AbortReason.DEALER_MISBEHAVED, culprit=LIAR),)
    assert victim.state == "Aborted"
    with pytest.raises(SessionAborted) as caught:
        attempt.server.receive(VICTIM, step.outbound)
    assert caught.value.culprits == (LIAR,)
    assert caught.value.retry_allowed
    assert attempt.server.excluded == {LIAR: Misbehaviour.BAD_DEALING}
    (proof,) = caught.value.proofs
    assert proof.culprit == LIAR
    assert is_proven(proof, roster=attempt.federation.roster)
    assert not is_proven(
        dataclasses.replace(proof, culprit=VICTIM), roster=attempt.federation.roster
    )


def test_no_complaint_is_provoked_by_a_server_that_alters_what_was_dealt(dealt, liars, aborts):
    """The channel's secret point would open real shares: it is shown over the dealer's lie only."""
    attempt = dealt()
    attempt.server.receive(LIAR, attempt.dealer.data)
    attempt.outbound = attempt.server.close_stage().outbound
    data = attempt.outbound[VICTIM]
    body = liars.ShareDelivery.decode(liars.body_of(data), peer="server", max_members=9)
    first = body.shares[0]
    item = dataclasses.replace(first.item, sealed=bytes(len(first.item.sealed)))
    changed = (dataclasses.replace(first, item=item), *body.shares[1:])
    forged = attempt.federation.reseal(
        "server", data, body=dataclasses.replace(body, shares=changed).encode()
    )
    aborts(attempt.clients[VICTIM], forged, Misbehaviour.BAD_SIGNATURE)


def test_a_complaint_about_honest_shares_costs_its_author_alone(dealt, liars):
    attempt = dealt()
    attempt.server.receive(LIAR, attempt.dealer.data)
    attempt.outbound = attempt.server.close_stage().outbound
    accuser = "site-005"
    complaint, _ = liars.false_complaint(
        attempt.federation, attempt.clients[accuser], attempt.outbound[accuser], LIAR
    )
    honest = attempt.answer(accuser, attempt.outbound[accuser])
    data = liars.complaint_message(attempt.federation, complaint, accuser, honest)
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(accuser, data)
    assert (caught.value.peer, caught.value.reason) == (accuser, Misbehaviour.FALSE_COMPLAINT)
    (proof,) = attempt.server.proofs
    assert is_proven(proof, roster=attempt.federation.roster)
    for id, message in attempt.outbound.items():
        if id != accuser:
            attempt.server.receive(id, attempt.answer(id, message))
    attempt.outbound, attempt.stage = attempt.server.close_stage().outbound, 3
    completed = attempt.run(absent={3: [accuser]})
    assert completed.survivors == tuple(id for id in attempt.federation.ids if id != accuser)


def changed_point(complaint, members):
    """Another secret point, so that the sealed shares would not open."""
    return dataclasses.replace(complaint, shared_point=members["site-004"].channel)


def changed_proof(complaint, members):
    return dataclasses.replace(complaint, response=write_scalar(3))


def changed_item(complaint, members):
    item = dataclasses.replace(complaint.delivered.item, sealed=bytes(92))
    return dataclasses.replace(
        complaint, delivered=dataclasses.replace(complaint.delivered, item=item)
    )


@pytest.mark.parametrize(
    "lie", [changed_point, changed_proof, changed_item], ids=lambda lie: lie.__name__
)
def test_a_complaint_that_shows_another_point_or_item_convicts_nobody_else(dealt, liars, lie):
    attempt = dealt()
    attempt.server.receive(LIAR, attempt.dealer.data)
    attempt.outbound = attempt.server.close_stage().outbound
    accuser = "site-005"
    client = attempt.clients[accuser]
    complaint, _ = liars.false_complaint(
        attempt.federation, client, attempt.outbound[accuser], LIAR
    )
    complaint = lie(complaint, client._state.members)
    honest = attempt.answer(accuser, attempt.outbound[accuser])
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(
            accuser, liars.complaint_message(attempt.federation, complaint, accuser, honest)
        )
    assert (caught.value.peer, caught.value.reason) == (accuser, Misbehaviour.FALSE_COMPLAINT)
    assert set(attempt.server.excluded) == {accuser}
