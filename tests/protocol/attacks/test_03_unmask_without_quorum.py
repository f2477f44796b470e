"""Attack 3: ask for shares without enough real signatures over the very same survivor set."""

import dataclasses

import pytest

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.messages import SignatureQuorum


@pytest.fixture
def signed(hostile):
    """All five sites signed the full set; nobody has revealed anything."""
    return hostile().join().deal().mask().sign()


def test_no_survivor_set_no_shares(hostile):
    server = hostile().join().deal().mask()
    empty = server.say(SignatureQuorum(signatures=()))
    for client in server.clients.values():
        with pytest.raises(RemoteProtocolError) as caught:
            client.receive(empty)
        assert caught.value.reason is Misbehaviour.UNEXPECTED_MESSAGE
        assert client.state == "Masked"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_signatures_than_the_quorum(signed, aborts, count):
    ids = list(signed.clients)
    for id in ids:
        aborts(signed.clients[id], signed.quorum(ids[:count]), Misbehaviour.BELOW_QUORUM)


def test_exactly_the_quorum_is_enough(signed):
    ids = list(signed.clients)
    data = signed.quorum(ids[: signed.spec.quorum])
    for client in signed.clients.values():
        assert client.receive(data).outbound


def test_copies_of_one_signature(signed, aborts):
    first = next(iter(signed.clients))
    copies = SignatureQuorum(signatures=((first, signed.signatures[first]),) * 4)
    aborts(signed.clients[first], signed.say(copies), Misbehaviour.BAD_MEMBER_SET)


def test_one_signature_under_several_names(signed, aborts):
    ids = list(signed.clients)
    one = signed.signatures[ids[0]]
    renamed = SignatureQuorum(signatures=tuple((id, one) for id in ids[:4]))
    aborts(signed.clients[ids[0]], signed.say(renamed), Misbehaviour.BAD_SIGNATURE)


def test_a_signer_outside_the_survivors(hostile, aborts):
    server = hostile().join().deal().mask()
    ids = list(server.clients)
    server.sign(ids[:4])
    # The fifth site colludes and signs the set that it is not in.
    server.signatures[ids[4]] = bytes(64)
    signers = [*ids[:3], ids[4]]
    aborts(server.clients[ids[0]], server.quorum(signers), Misbehaviour.BAD_MEMBER_SET)


@pytest.mark.parametrize("change", [{"attempt": 1}, {"round": 4}])
def test_signatures_of_another_round_or_attempt(hostile, federation, aborts, change):
    members, twin = federation(), federation()
    server = hostile(members).join().deal().mask().sign()
    spec = dataclasses.replace(members.spec, **change)
    other = hostile(twin, spec=spec).join().deal().mask().sign()
    server.signatures = other.signatures
    for client in server.clients.values():
        aborts(client, server.quorum(), Misbehaviour.BAD_SIGNATURE)
