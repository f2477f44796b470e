"""Attack 12: sealed shares delivered to another site, again, from another round, or not at all."""

import dataclasses

import pytest

from protocol.errors import AbortReason, Misbehaviour
from protocol.messages import Complaint, Envelope


@pytest.fixture
def dealt(hostile):
    return hostile().join().deal()


def complaint(client, data):
    """What the client says instead of its input; its session is over and holds no secret."""
    outbound = client.receive(data).outbound
    assert client.state == "Aborted"
    assert client._state.reason is AbortReason.DEALER_MISBEHAVED
    envelope = Envelope.parse(outbound, peer="site", max_size=len(outbound))
    assert envelope.label == Complaint.LABEL
    return Complaint.decode(envelope.body, peer="site")


def replaced(server, receiver, dealer, share):
    """The honest delivery with ``dealer``'s share replaced."""
    shares = [
        share if v == dealer else server.share_for(receiver, v)
        for v in sorted(server.dealt)
        if v != receiver
    ]
    return server.delivery(receiver, shares=shares)


def test_a_share_sealed_for_another_site(dealt):
    victim, dealer, third = list(dealt.clients)[:3]
    data = replaced(dealt, victim, dealer, dealt.share_for(third, dealer))
    found = complaint(dealt.clients[victim], data)
    assert found == Complaint(accused=dealer, reason=Misbehaviour.BAD_CIPHERTEXT)


def test_a_share_of_another_dealer(dealt):
    victim, dealer, third = list(dealt.clients)[:3]
    share = dataclasses.replace(dealt.share_for(victim, third), dealer=dealer)
    found = complaint(dealt.clients[victim], replaced(dealt, victim, dealer, share))
    assert found == Complaint(accused=dealer, reason=Misbehaviour.BAD_CIPHERTEXT)


def test_the_victims_own_sealed_share_reflected(dealt):
    victim, dealer = list(dealt.clients)[:2]
    own = dataclasses.replace(dealt.share_for(dealer, victim), dealer=dealer)
    found = complaint(dealt.clients[victim], replaced(dealt, victim, dealer, own))
    assert found.reason is Misbehaviour.BAD_CIPHERTEXT


@pytest.mark.parametrize(
    "field", ["mask_key_commitment", "self_mask_commitment", "seed_commitment", "sealed"]
)
def test_a_share_beside_other_commitments_than_its_dealers(dealt, field):
    victim, dealer, third = list(dealt.clients)[:3]
    foreign = getattr(dealt.share_for(third, dealer), field)
    if field == "seed_commitment":
        foreign = bytes(32)
    share = dataclasses.replace(dealt.share_for(victim, dealer), **{field: foreign})
    found = complaint(dealt.clients[victim], replaced(dealt, victim, dealer, share))
    assert found == Complaint(accused=dealer, reason=Misbehaviour.BAD_CIPHERTEXT)


def test_a_share_of_another_attempt(dealt, hostile, federation):
    spec = dataclasses.replace(dealt.spec, attempt=1)
    other = hostile(federation(), spec=spec).join().deal()
    victim, dealer = list(dealt.clients)[:2]
    data = replaced(dealt, victim, dealer, other.share_for(victim, dealer))
    assert complaint(dealt.clients[victim], data).reason is Misbehaviour.BAD_CIPHERTEXT


@pytest.mark.parametrize("byte", [0, 12, 60, -1])
def test_a_share_with_one_bit_flipped(dealt, byte):
    victim, dealer = list(dealt.clients)[:2]
    honest = dealt.share_for(victim, dealer)
    sealed = bytearray(honest.sealed)
    sealed[byte] ^= 1
    share = dataclasses.replace(honest, sealed=bytes(sealed))
    found = complaint(dealt.clients[victim], replaced(dealt, victim, dealer, share))
    assert found.reason is Misbehaviour.BAD_CIPHERTEXT


def test_a_share_repeated(dealt, aborts):
    victim, dealer = list(dealt.clients)[:2]
    shares = [dealt.share_for(victim, dealer)] * 4
    data = dealt.delivery(victim, shares=shares)
    aborts(dealt.clients[victim], data, Misbehaviour.BAD_MEMBER_SET)


def test_a_share_left_out(dealt, aborts):
    victim, *others = dealt.clients
    shares = [dealt.share_for(victim, v) for v in others[1:]]
    data = dealt.delivery(victim, shares=shares)
    aborts(dealt.clients[victim], data, Misbehaviour.BAD_MEMBER_SET)


def test_a_share_too_many(dealt, aborts):
    victim, *others = dealt.clients
    shares = [dealt.share_for(victim, v) for v in others]
    data = dealt.delivery(victim, dealers=[victim, *others[:3]], shares=shares)
    aborts(dealt.clients[victim], data, Misbehaviour.BAD_MEMBER_SET)


def test_the_dealers_without_the_victim(dealt, aborts):
    victim, *others = dealt.clients
    data = dealt.delivery(victim, dealers=others)
    aborts(dealt.clients[victim], data, Misbehaviour.OWN_ENTRY_CHANGED)


def test_after_a_complaint_the_attempt_ends_at_the_server(federation, simulation):
    attempt = simulation.Round(federation())
    attempt.step()
    attempt.step()
    first, second = attempt.federation.ids[:2]
    body = Complaint(accused=second, reason=Misbehaviour.BAD_CIPHERTEXT).encode()
    answer = attempt.answer(first, attempt.outbound[first])
    complaint_data = attempt.federation.reseal(first, answer, body=body, label=Complaint.LABEL)
    with pytest.raises(Exception, match="complained") as caught:
        attempt.server.receive(first, complaint_data)
    assert set(caught.value.culprits) == {first, second}
    assert attempt.server.state == "Aborted"
