"""Attack 7: X25519 keys for which every shared secret is zero, or that have a second encoding."""

import json
from pathlib import Path

import pytest

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.keys import is_safe_public_key
from protocol.messages import AdvertiseKeys

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "x25519.json").read_text())
FIELD_PRIME = 2**255 - 19
SMALL_ORDER = [bytes.fromhex(text) for text in VECTORS["small_order"]]
HIGH_BIT = [key[:31] + bytes([key[31] | 0x80]) for key in SMALL_ORDER]
NON_CANONICAL = [(FIELD_PRIME + extra).to_bytes(32, "little") for extra in range(2, 19)]
UNSAFE = [*SMALL_ORDER, *HIGH_BIT, *NON_CANONICAL]


def advertised(members, id, data, **keys):
    body = AdvertiseKeys(**({"mask_key": b"m" * 31 + b"\x01"} | {"channel_key": b"c" * 32} | keys))
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


def test_safe_keys_are_just_below_the_prime_and_random_ones():
    assert is_safe_public_key((FIELD_PRIME - 2).to_bytes(32, "little"))
    assert is_safe_public_key((9).to_bytes(32, "little"))
    assert not is_safe_public_key(bytes([9]) + bytes(30))
    assert not is_safe_public_key(bytes([9]) + bytes(32))
