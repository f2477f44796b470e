"""Attack 6: put other keys between two sites: the server's, swapped, reflected or repeated ones."""

import dataclasses

import pytest

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.keys import KeyPair
from protocol.messages import AdvertiseKeys, Envelope, seal


def advertisement(server, id, *, signer=None, **keys):
    """An advertisement of ``id`` with other keys, signed by ``signer`` or by nobody who may."""
    honest = server.public_keys()[id]
    body = AdvertiseKeys(
        mask_key=keys.get("mask", honest.mask), channel_key=keys.get("channel", honest.channel)
    )
    identity = server.federation.identities[signer or id]
    if signer is None or signer == id:
        return seal(identity, label=AdvertiseKeys.LABEL, context=server.context, body=body.encode())
    forged = seal(identity, label=AdvertiseKeys.LABEL, context=server.context, body=body.encode())
    return forged.replace(signer.encode(), id.encode())


@pytest.fixture
def joined(hostile):
    return hostile().join()


@pytest.mark.parametrize("which", ["mask", "channel"])
def test_the_servers_own_key_in_the_place_of_a_sites(joined, aborts, which):
    victim, target, insider = list(joined.clients)[:3]
    spy = KeyPair(bytes(range(32)))
    # The server has no key of the target's, so the best it can do is another member's signature.
    joined.ads[target] = advertisement(joined, target, signer=insider, **{which: spy.public})
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.BAD_SIGNATURE)


def test_mask_and_channel_key_swapped(joined, aborts):
    victim, target = list(joined.clients)[:2]
    keys = joined.public_keys()[target]
    honest = joined.ads[target]
    joined.ads[target] = (
        honest.replace(keys.mask, b"#" * 32)
        .replace(keys.channel, keys.mask)
        .replace(b"#" * 32, keys.channel)
    )
    assert joined.ads[target] != honest
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.BAD_SIGNATURE)


@pytest.mark.parametrize("which", ["mask", "channel"])
@pytest.mark.parametrize("source", ["victim", "third"])
@pytest.mark.parametrize("part", ["mask", "channel"])
def test_an_insider_that_shows_somebody_elses_key_as_its_own(joined, aborts, which, source, part):
    # With the victim's own key reflected, both would derive keys from one secret.
    victim, insider, third = list(joined.clients)[:3]
    stolen = getattr(joined.public_keys()[victim if source == "victim" else third], part)
    joined.ads[insider] = advertisement(joined, insider, **{which: stolen})
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.BAD_PUBLIC_KEY)


def test_an_insider_with_one_key_for_both_uses(joined, aborts):
    victim, insider = list(joined.clients)[:2]
    same = joined.public_keys()[insider].mask
    joined.ads[insider] = advertisement(joined, insider, channel=same)
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.BAD_PUBLIC_KEY)


def test_the_victims_own_entry_replaced_by_another_session_of_its_own(joined, aborts):
    victim = next(iter(joined.clients))
    # The same site, restarted: a valid signature over keys that this session does not hold.
    other = advertisement(joined, victim, mask=KeyPair(bytes(range(1, 33))).public)
    joined.ads[victim] = other
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.OWN_ENTRY_CHANGED)


def test_the_victims_own_entry_left_out(joined, aborts):
    victim = next(iter(joined.clients))
    ads = {id: ad for id, ad in joined.ads.items() if id != victim}
    aborts(joined.clients[victim], joined.directory(ads), Misbehaviour.OWN_ENTRY_CHANGED)


def test_keys_of_another_attempt(joined, hostile, federation, aborts):
    victim, target = list(joined.clients)[:2]
    spec = dataclasses.replace(joined.spec, attempt=1)
    other = hostile(federation(), spec=spec, attempt=1).join()
    joined.ads[target] = other.ads[target]
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.FOREIGN_CONTEXT)


def test_another_kind_of_message_in_the_place_of_keys(joined, aborts):
    victim, target = list(joined.clients)[:2]
    joined.ads[target] = joined.federation.reseal(target, joined.ads[target], label=b"FSA2/other")
    aborts(joined.clients[victim], joined.directory(), Misbehaviour.FOREIGN_CONTEXT)


def test_the_server_refuses_a_stolen_key_at_the_door(federation):
    members = federation()
    session = members.server()
    offers = session.start().outbound
    first, second = members.ids[:2]
    ads = {}
    for id in (first, second):
        client = members.client(id)
        client.receive(offers[id])
        ads[id] = client.accept_model(b"the exact bytes of a model").outbound
    session.receive(first, ads[first])
    body = bytes(Envelope.parse(ads[first], peer=first, max_size=1 << 16).body)
    with pytest.raises(RemoteProtocolError) as caught:
        session.receive(second, members.reseal(second, ads[second], body=body))
    assert caught.value.reason is Misbehaviour.BAD_PUBLIC_KEY
    assert session.excluded == {second: Misbehaviour.BAD_PUBLIC_KEY}
