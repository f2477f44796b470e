"""Attack 20: forged, altered and malleated signatures, on every message in both directions."""

import pytest

from protocol import SERVER
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import verify_signature
from protocol.messages import Envelope

FIELD_PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture(scope="module")
def honest(simulation):
    attempt = simulation.Round(simulation.Federation())
    attempt.run()
    return attempt


def signature_of(data, peer):
    return Envelope.parse(data, peer=peer, max_size=len(data)).signature


def altered(data, peer, how):
    """``data`` with its signature, or what it covers, changed without the key."""
    signature = signature_of(data, peer)
    s = int.from_bytes(signature[32:], "little")
    replacement = {
        "zero": bytes(64),
        "one bit of R": bytes([signature[0] ^ 1]) + signature[1:],
        "one bit of S": signature[:32] + bytes([signature[32] ^ 1]) + signature[33:],
        "S + L": signature[:32] + (s + ORDER).to_bytes(32, "little"),
        "minus S": signature[:32] + (ORDER - s).to_bytes(32, "little"),
    }
    if how in replacement:
        return data.replace(signature, replacement[how])
    if how == "one bit of the body":
        return data[:-1] + bytes([data[-1] ^ 1])
    raise AssertionError(how)


HOW = ["zero", "one bit of R", "one bit of S", "S + L", "minus S", "one bit of the body"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("stage", range(6))
def test_a_client_refuses_every_altered_server_message(federation, honest, simulation, how, stage):
    attempt = simulation.Round(federation())
    for _ in range(stage):
        attempt.step()
    first = attempt.federation.ids[0]
    client = attempt.clients[first]
    state = client.state
    data = altered(attempt.outbound[first], SERVER, how)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(data)
    assert caught.value.reason is Misbehaviour.BAD_SIGNATURE
    assert client.state == state
    # It changed nothing: the real message still works.
    attempt.answer(first, attempt.outbound[first])


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("stage", range(5))
def test_the_server_refuses_every_altered_client_message(federation, simulation, how, stage):
    attempt = simulation.Round(federation())
    for _ in range(stage):
        attempt.step()
    first = attempt.federation.ids[0]
    data = attempt.answer(first, attempt.outbound[first])
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(first, altered(data, first, how))
    assert caught.value.reason is Misbehaviour.BAD_SIGNATURE
    # Anybody could have sent that: the site in whose name it came is not excluded.
    assert not attempt.server.excluded
    attempt.server.receive(first, data)


@pytest.mark.parametrize("stage", range(5))
def test_one_member_cannot_speak_for_another(federation, simulation, stage):
    attempt = simulation.Round(federation())
    for _ in range(stage):
        attempt.step()
    victim, insider = attempt.federation.ids[:2]
    data = attempt.answer(victim, attempt.outbound[victim])
    stolen = data.replace(
        signature_of(data, victim),
        signature_of(attempt.federation.reseal(insider, data), insider),
    )
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(victim, stolen)
    assert caught.value.reason is Misbehaviour.BAD_SIGNATURE
    with pytest.raises(RemoteProtocolError):
        attempt.clients[victim].receive(
            attempt.federation.reseal(insider, attempt.outbound[victim])
        )


def test_a_signature_quorum_with_a_malleated_signature_reveals_nothing(hostile, aborts):
    server = hostile().join().deal().mask().sign()
    first, second = list(server.clients)[:2]
    signature = server.signatures[second]
    s = int.from_bytes(signature[32:], "little") + ORDER
    server.signatures[second] = signature[:32] + s.to_bytes(32, "little")
    aborts(server.clients[first], server.quorum(), Misbehaviour.BAD_SIGNATURE)


@pytest.mark.parametrize("name", ["label", "context", "sender"])
def test_the_signature_covers_the_head_of_the_message_too(honest, name):
    data = next(data for _, _, data, _ in honest.log)
    envelope = Envelope.parse(data, peer=SERVER, max_size=len(data))
    key = honest.federation.roster.server_key
    assert envelope.is_signed_by(key)
    other = {"label": b"FSA2/other", "context": bytes(32), "sender": "site-000"}[name]
    fields = {n: getattr(envelope, n) for n in Envelope.__slots__}
    assert not Envelope(**(fields | {name: other})).is_signed_by(key)


# y = 0, 1, -1 and the two of order 8; then p and p + 1, which are 0 and 1 once more.
SMALL_ORDER_KEYS = [
    y.to_bytes(32, "little")
    for y in (
        0,
        1,
        FIELD_PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
        FIELD_PRIME,
        FIELD_PRIME + 1,
    )
]


@pytest.mark.parametrize("sign_bit", [0, 0x80])
@pytest.mark.parametrize("key", SMALL_ORDER_KEYS, ids=lambda key: key.hex()[-8:])
def test_a_roster_key_of_small_order_cannot_sign_for_everybody(key, sign_bit):
    # R the identity and S = 0 satisfy S B = R + h A for every message whose h A vanishes: always
    # for the identity, for one message in eight at most for the others.
    key = key[:31] + bytes([key[31] | sign_bit])
    signature = b"\x01" + bytes(63)
    for number in range(64):
        assert not verify_signature(key, signature=signature, message=bytes([number]))


def test_the_listed_points_are_those_whose_order_divides_eight():
    d = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME

    def double(x, y):
        k = d * x * x * y * y % FIELD_PRIME
        return (
            2 * x * y * pow(1 + k, -1, FIELD_PRIME) % FIELD_PRIME,
            (y * y + x * x) * pow(1 - k, -1, FIELD_PRIME) % FIELD_PRIME,
        )

    for key in SMALL_ORDER_KEYS[:5]:
        y = int.from_bytes(key, "little")
        square = (y * y - 1) * pow(d * y * y + 1, -1, FIELD_PRIME) % FIELD_PRIME
        x = pow(square, (FIELD_PRIME + 3) // 8, FIELD_PRIME)
        if x * x % FIELD_PRIME != square:
            x = x * pow(2, (FIELD_PRIME - 1) // 4, FIELD_PRIME) % FIELD_PRIME
        assert x * x % FIELD_PRIME == square
        assert double(*double(*double(x, y))) == (0, 1)


@pytest.mark.parametrize("key", [b"", bytes(31), b"\xff" * 32, bytes(33)])
@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(65)])
def test_degenerate_keys_and_signatures_are_no_error_and_no_signature(key, signature):
    assert not verify_signature(key, signature=signature, message=b"anything")
