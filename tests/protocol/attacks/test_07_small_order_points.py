"""Attack 7: keys outside the group of prime order, for which secret points take few values."""

import pytest

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.group import public_point, write_scalar
from protocol.keys import is_safe_public_key
from protocol.messages import AdvertiseKeys

FIELD_PRIME = 2**255 - 19
# The y of the points of order 1, 2, 4 and 8, with both signs of x (RFC 8032, section 5.1).
ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303021994
SMALL_ORDER = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, FIELD_PRIME - 1, ORDER_8, FIELD_PRIME - ORDER_8)
    for sign in (0, 1)
]
NON_CANONICAL = [(FIELD_PRIME + extra).to_bytes(32, "little") for extra in range(19)]
NO_POINT = [(2).to_bytes(32, "little"), bytes([9]) + bytes(31)]
UNSAFE = [*SMALL_ORDER, *NON_CANONICAL, *NO_POINT]
SAFE = [public_point(write_scalar(number)) for number in (1, 2, 3)]


def advertised(members, id, data, **keys):
    body = AdvertiseKeys(**({"mask_key": SAFE[0], "channel_key": SAFE[1]} | keys))
    return members.reseal(id, data, body=body.encode())


@pytest.mark.parametrize("key", UNSAFE, ids=lambda key: key.hex()[-8:])
@pytest.mark.parametrize("which", ["mask_key", "channel_key"])
def test_a_client_refuses_an_insiders_unsafe_key(hostile, aborts, key, which):
    server = hostile().join()
    victim, insider = list(server.clients)[:2]
    server.ads[insider] = advertised(
        server.federation, insider, server.ads[insider], **{which: key}
    )
    aborts(server.clients[victim], server.directory(), Misbehaviour.BAD_PUBLIC_KEY)


@pytest.mark.parametrize("key", UNSAFE, ids=lambda key: key.hex()[-8:])
def test_the_server_refuses_an_unsafe_key_and_names_its_sender(federation, key):
    members = federation()
    session, insider = members.server(), members.ids[0]
    client = members.client(insider)
    client.receive(session.start().outbound[insider])
    data = client.accept_model(b"the exact bytes of a model").outbound
    with pytest.raises(RemoteProtocolError) as caught:
        session.receive(insider, advertised(members, insider, data, mask_key=key))
    assert caught.value.reason is Misbehaviour.BAD_PUBLIC_KEY
    assert caught.value.peer == insider


def test_ordinary_points_are_safe_and_their_sum_with_a_small_one_is_not(oracles):
    assert all(map(is_safe_public_key, SAFE))
    off = oracles.point_bytes(oracles.add(oracles.BASE, (0, FIELD_PRIME - 1)))
    assert not is_safe_public_key(off)
    assert not is_safe_public_key(SAFE[0] + bytes(1))
