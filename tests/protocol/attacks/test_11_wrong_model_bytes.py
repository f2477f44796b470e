"""Attack 11: announce the right model hash and send other bytes."""

import pytest

from protocol.errors import LocalProtocolError, Misbehaviour, RemoteProtocolError

MODEL = b"the exact bytes of a model"


@pytest.mark.parametrize(
    "model",
    [b"", b"another model", MODEL[:-1], MODEL + b"\x00", bytes([MODEL[0] ^ 1]) + MODEL[1:]],
    ids=["empty", "other", "truncated", "longer", "one bit"],
)
def test_other_bytes_are_refused_and_no_key_is_shown(hostile, model):
    server = hostile()
    client = next(iter(server.clients.values()))
    client.receive(server.offer())
    with pytest.raises(RemoteProtocolError) as caught:
        client.accept_model(model)
    assert caught.value.reason is Misbehaviour.WRONG_MODEL
    assert client.state == "Offered"
    with pytest.raises(LocalProtocolError):
        client.provide_input(server.federation.words(server.spec.cohort[0]))
    assert client.accept_model(MODEL).outbound
