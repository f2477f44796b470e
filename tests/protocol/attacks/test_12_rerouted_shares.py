"""Attack 12: sealed shares delivered to another site, again, from another round, or not at all."""

import dataclasses

import pytest

from protocol.errors import Misbehaviour


@pytest.fixture
def dealt(hostile):
    return hostile().join().deal()


def replaced(server, receiver, dealer, share):
    """The honest delivery with ``dealer``'s share replaced."""
    shares = [
        share if v == dealer else server.share_for(receiver, v)
        for v in sorted(server.dealt)
        if v != receiver
    ]
    return server.delivery(receiver, shares=shares)


def test_a_share_sealed_for_another_site(dealt, aborts):
    victim, dealer, third = list(dealt.clients)[:3]
    data = replaced(dealt, victim, dealer, dealt.share_for(third, dealer))
    aborts(dealt.clients[victim], data, Misbehaviour.BAD_SIGNATURE)


def test_a_share_of_another_dealer(dealt, aborts):
    victim, dealer, third = list(dealt.clients)[:3]
    share = dataclasses.replace(dealt.share_for(victim, third), dealer=dealer)
    aborts(
        dealt.clients[victim], replaced(dealt, victim, dealer, share), Misbehaviour.BAD_SIGNATURE
    )


def test_the_victims_own_sealed_share_reflected(dealt, aborts):
    victim, dealer = list(dealt.clients)[:2]
    own = dataclasses.replace(dealt.share_for(dealer, victim), dealer=dealer)
    # An item for its own dealer has nothing sealed in it.
    aborts(dealt.clients[victim], replaced(dealt, victim, dealer, own), Misbehaviour.MALFORMED)


@pytest.mark.parametrize(
    "field",
    [
        "mask_key_commitment",
        "self_mask_commitment",
        "mask_key_response",
        "self_mask_response",
        "sealed",
    ],
)
def test_a_share_beside_other_commitments_than_its_dealers(dealt, aborts, field):
    victim, dealer, third = list(dealt.clients)[:3]
    honest = dealt.share_for(victim, dealer)
    foreign = getattr(dealt.share_for(third, dealer).item, field)
    share = dataclasses.replace(honest, item=dataclasses.replace(honest.item, **{field: foreign}))
    aborts(
        dealt.clients[victim], replaced(dealt, victim, dealer, share), Misbehaviour.BAD_SIGNATURE
    )


@pytest.mark.parametrize(
    "field", ["self_mask_point", "challenge", "mask_key_response", "root", "signature"]
)
def test_a_share_under_another_head_than_its_dealers(dealt, aborts, field):
    victim, dealer, third = list(dealt.clients)[:3]
    honest = dealt.share_for(victim, dealer)
    foreign = getattr(dealt.share_for(victim, third).head, field)
    share = dataclasses.replace(honest, head=dataclasses.replace(honest.head, **{field: foreign}))
    aborts(
        dealt.clients[victim], replaced(dealt, victim, dealer, share), Misbehaviour.BAD_SIGNATURE
    )


def test_a_share_of_another_attempt(dealt, hostile, federation, aborts):
    spec = dataclasses.replace(dealt.spec, attempt=1)
    other = hostile(federation(), spec=spec).join().deal()
    victim, dealer = list(dealt.clients)[:2]
    data = replaced(dealt, victim, dealer, other.share_for(victim, dealer))
    aborts(dealt.clients[victim], data, Misbehaviour.BAD_SIGNATURE)


@pytest.mark.parametrize("byte", [0, 12, 60, -1])
def test_a_share_with_one_bit_flipped(dealt, byte, aborts):
    victim, dealer = list(dealt.clients)[:2]
    honest = dealt.share_for(victim, dealer)
    sealed = bytearray(honest.item.sealed)
    sealed[byte] ^= 1
    item = dataclasses.replace(honest.item, sealed=bytes(sealed))
    share = dataclasses.replace(honest, item=item)
    aborts(
        dealt.clients[victim], replaced(dealt, victim, dealer, share), Misbehaviour.BAD_SIGNATURE
    )


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
