"""What a site's session takes as its input, and from which entropy."""

import numpy as np
import pytest

from protocol import LocalProtocolError

ME = "site-000"


@pytest.fixture
def members(federation):
    return federation()


BAD_INPUTS = {
    "float": ({"words": np.zeros(19)}, "signed integer"),
    "NaN": ({"words": np.full(19, np.nan)}, "signed integer"),
    "unsigned": ({"words": np.zeros(19, dtype=np.uint32)}, "signed integer"),
    "list": ({"words": [0] * 19}, "signed integer"),
    "too short": ({"words": np.zeros(18, dtype=np.int32)}, "shape"),
    "two axes": ({"words": np.zeros((19, 1), dtype=np.int32)}, "shape"),
    "above the bound": ({"words": np.full(19, 101, dtype=np.int32)}, "outside"),
    "below the bound": ({"words": np.full(19, -101, dtype=np.int64)}, "outside"),
    "smallest int32": ({"words": np.full(19, -(2**31), dtype=np.int32)}, "outside"),
    "no extra": ({"extra": ()}, "extra"),
    "two extra": ({"extra": (1, 2)}, "extra"),
    "extra too large": ({"extra": (1001,)}, "extra"),
    "extra missing": ({"extra": None}, "extra"),
    "extra not whole": ({"extra": (0.5,)}, "extra"),
    "noise unasked for": ({"noise": np.zeros(19, dtype=np.int64)}, "noise"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_an_input_out_of_bounds_is_the_callers_mistake(simulation, members, name):
    change, expected = BAD_INPUTS[name]
    client = members.client(ME)
    client.receive(members.server().start().outbound[ME])
    client.accept_model(simulation.MODEL)
    good = {"words": members.words(ME), "extra": members.extra_words(ME), "noise": None}
    arguments = good | change
    with pytest.raises(LocalProtocolError, match=expected):
        client.provide_input(arguments.pop("words"), **arguments)
    assert client.state == "Announced"
    client.provide_input(good.pop("words"), **good)


@pytest.mark.parametrize(
    "noise",
    [None, np.zeros(18, dtype=np.int64), np.zeros(19), np.full(19, 10**6, dtype=np.int64), [0]],
)
def test_missing_or_misfit_noise_is_refused(federation, simulation, noise):
    members = federation(noise_variance=9.0)
    client = members.client(ME)
    client.receive(members.server().start().outbound[ME])
    client.accept_model(simulation.MODEL)
    with pytest.raises(LocalProtocolError, match="noise"):
        client.provide_input(members.words(ME), extra=members.extra_words(ME), noise=noise)


def test_the_callers_array_is_never_touched(simulation, members):
    words = members.words(ME)
    attempt = simulation.Round(members)
    client = attempt.clients[ME]
    client.receive(attempt.outbound[ME])
    client.accept_model(simulation.MODEL)
    before = words.copy()
    client.provide_input(words, extra=members.extra_words(ME))
    words[:] = 0
    assert (words != before).any()
    assert client._state.vector[0][0] == before[0]


def test_a_source_that_repeats_itself_is_refused(simulation, members):
    client = members.client(ME, entropy=lambda size: bytes(size))
    client.receive(members.server().start().outbound[ME])
    with pytest.raises(LocalProtocolError, match="entropy source repeats"):
        client.accept_model(simulation.MODEL)


@pytest.mark.parametrize("model", [None, "text", 7])
def test_a_model_that_is_not_bytes_is_the_callers_mistake(simulation, members, model):
    client = members.client(ME)
    client.receive(members.server().start().outbound[ME])
    with pytest.raises(LocalProtocolError, match="model"):
        client.accept_model(model)
    assert client.accept_model(simulation.MODEL).outbound
