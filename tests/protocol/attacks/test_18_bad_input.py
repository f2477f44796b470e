"""Attack 18: inputs that would wrap the sum around, poison it with NaN, or shift its words."""

import numpy as np
import pytest

from protocol.errors import LocalProtocolError, Misbehaviour, RemoteProtocolError
from protocol.fixed_point import FixedPoint
from protocol.messages import Envelope, MaskedInput

MODEL = b"the exact bytes of a model"


@pytest.fixture
def announced(federation):
    """A client that waits for its input: 19 words within +-100, one extra word within +-1000."""
    members = federation()
    client = members.client(members.ids[0])
    client.receive(members.offer())
    client.accept_model(MODEL)
    return client


GOOD = np.full(19, 100, dtype=np.int32)


def changed(place, value, dtype=np.int64):
    words = GOOD.astype(dtype)
    words[place] = value
    return words


@pytest.mark.parametrize(
    "words",
    [
        changed(0, 101),
        changed(18, -101),
        changed(5, 2**31),
        changed(5, -(2**63)),
        changed(5, 2**63 - 1),
        changed(5, 2**32),
        GOOD[:18],
        np.append(GOOD, 0),
        GOOD.reshape(1, 19),
        np.array([], dtype=np.int32),
        GOOD.astype(np.uint32),
        GOOD.astype(float),
        GOOD / np.nan,
        np.full(19, np.inf),
        GOOD.astype(object),
        GOOD.astype(bool),
        GOOD.tolist(),
        GOOD.tobytes(),
        None,
    ],
    ids=lambda words: f"{type(words).__name__}-{getattr(words, 'dtype', '')}",
)
def test_a_bad_vector_is_refused_and_nothing_is_kept(announced, words):
    with pytest.raises(LocalProtocolError, match="input"):
        announced.provide_input(words, extra=[1])
    assert announced.state == "Announced"
    announced.provide_input(GOOD, extra=[1])
    assert announced.state == "Ready"


@pytest.mark.parametrize(
    "extra", [[], [1, 2], [1001], [-1001], [2**64], [1.0], [np.nan], ["1"], [None]]
)
def test_bad_extra_words_are_refused(announced, extra):
    with pytest.raises(LocalProtocolError, match="extra"):
        announced.provide_input(GOOD, extra=extra)
    assert announced.state == "Announced"


def test_noise_where_none_was_agreed_is_refused(announced):
    with pytest.raises(LocalProtocolError, match="noise"):
        announced.provide_input(GOOD, extra=[1], noise=np.zeros(19, np.int64))


@pytest.mark.parametrize(
    "noise",
    [
        None,
        np.zeros(18, np.int64),
        np.zeros(19, np.int32),
        np.zeros(19),
        np.full(19, 10**6, np.int64),
        np.full(19, -(2**63), np.int64),
    ],
    ids=["none", "short", "int32", "float", "huge", "most negative"],
)
def test_bad_noise_is_refused_where_noise_was_agreed(federation, noise):
    members = federation(noise_variance=100.0)
    client = members.client(members.ids[0])
    client.receive(members.offer())
    client.accept_model(MODEL)
    with pytest.raises(LocalProtocolError, match="noise"):
        client.provide_input(GOOD, extra=[1], noise=noise)
    assert client.state == "Announced"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0001, -1e300])
def test_reals_are_refused_before_they_become_integers(value):
    coding = FixedPoint(scale=50.0, clip=2.0, word_bits=32)
    values = np.zeros(19)
    values[7] = value
    with pytest.raises(LocalProtocolError):
        coding.encode(values, key=bytes(32))


@pytest.mark.parametrize("change", [-4, -1, 1, 4])
def test_an_upload_of_another_length_is_refused_by_name(federation, simulation, change):
    attempt = simulation.Round(federation())
    attempt.step()
    attempt.step()
    liar, *others = attempt.federation.ids
    honest = attempt.answer(liar, attempt.outbound[liar])
    body = MaskedInput.decode(
        Envelope.parse(honest, peer=liar, max_size=len(honest)).body,
        peer=liar,
        size=attempt.federation.spec.masked_size,
    )
    packed = bytes(body.packed)
    packed = packed[:change] if change < 0 else packed + bytes(change)
    data = attempt.federation.reseal(
        liar, honest, body=b"".join(MaskedInput(h2=body.h2, packed=packed).parts())
    )
    with pytest.raises(RemoteProtocolError) as caught:
        attempt.server.receive(liar, data)
    assert (caught.value.peer, caught.value.reason) == (liar, Misbehaviour.MALFORMED)
    assert not attempt.server._state.accumulator.any()
    for id in others:
        attempt.server.receive(id, attempt.answer(id, attempt.outbound[id]))
    attempt.outbound = attempt.server.close_stage().outbound
    attempt.stage = 3
    attempt.step()
    attempt.step()
    assert attempt.completed.survivors == tuple(others)
