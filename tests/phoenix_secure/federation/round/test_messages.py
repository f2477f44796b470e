"""Messages: an exact round trip, and hostile bytes that end in one error class."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from phoenix_secure.federation.round.messages import (
    MalformedMessage,
    SecureTrainRequest,
    TrainReply,
    TrainRequest,
    WireModel,
)


def reply(**changes: object) -> TrainReply:
    fields: dict = {
        "round_number": 3,
        "delta": np.array([0.5, -1.0], np.float32),
        "num_images": 7,
        "num_steps": 2,
        "loss": 0.25,
        "seconds": 1.5,
    }
    return TrainReply(**(fields | changes))


def parse(body: bytes) -> TrainReply:
    return TrainReply.from_bytes(body, round_number=3, num_parameters=2)


def test_round_trips_are_exact() -> None:
    request = TrainRequest(round_number=9, parameters=np.array([1e-30, 3.5], np.float32))
    back = TrainRequest.from_bytes(request.to_bytes())
    assert back.round_number == 9
    np.testing.assert_array_equal(back.parameters, request.parameters)
    answer = parse(reply().to_bytes())
    np.testing.assert_array_equal(answer.delta, reply().delta)
    assert (answer.num_images, answer.num_steps, answer.loss, answer.seconds) == (7, 2, 0.25, 1.5)


@pytest.mark.parametrize(
    "wrong",
    [
        reply(round_number=4),
        reply(delta=np.zeros(3, np.float32)),
        reply(delta=np.array([np.nan, 0], np.float32)),
        reply(delta=np.array([np.inf, 0], np.float32)),
        reply(num_images=0),
        reply(num_steps=-1),
        reply(loss=float("nan")),
        reply(seconds=float("inf")),
    ],
)
def test_answer_that_does_not_fit_is_refused(wrong: TrainReply) -> None:
    with pytest.raises(MalformedMessage, match="expected"):
        parse(wrong.to_bytes())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\xff" * 40,
        save({"round": np.array(3)}),
        save({"round": np.array([3]), "parameters": np.zeros(2, np.float32)}),
        save({"round": np.array(3), "parameters": np.zeros(2)}),
        save({"round": np.array(3), "parameters": np.zeros(2, np.float32), "x": np.zeros(1)}),
    ],
)
def test_foreign_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        TrainRequest.from_bytes(body)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_damaged_bytes_never_raise_anything_else(tail: bytes, position: int, value: int) -> None:
    body = bytearray(reply().to_bytes())
    body[position % len(body)] = value
    for damaged in (bytes(body), bytes(body) + tail, bytes(body)[: position % len(body)]):
        with contextlib.suppress(MalformedMessage):
            parse(damaged)


def test_secure_request_splits_where_it_was_joined() -> None:
    for announcement, model in ((b"offer", b"model"), (b"", b"m"), (b"o" * 300, b"")):
        request = SecureTrainRequest(announcement=announcement, model=model)
        assert SecureTrainRequest.from_bytes(request.to_bytes()) == request


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\5four", b"\xff" * 50])
def test_secure_request_with_a_wrong_length_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        SecureTrainRequest.from_bytes(body)


@given(
    number=st.integers(0, 2**40),
    size=st.integers(0, 2000),
    factor=st.floats(2.0**-20, 2.0**20),
)
def test_parts_of_a_request_are_what_safetensors_writes(
    number: int, size: int, factor: float
) -> None:
    vector = np.arange(size, dtype=np.float32) / 3
    request = TrainRequest(round_number=number, parameters=vector, clip_factor=factor)
    by_library = save(
        {
            "round": np.array(number, np.int64),
            "parameters": vector,
            "clip_factor": np.array(factor, np.float64),
        }
    )
    assert request.to_bytes() == b"".join(request.parts()) == by_library
    assert np.shares_memory(np.frombuffer(request.parts()[1], np.uint8), vector) or size == 0


def test_a_wire_model_has_the_hashes_of_its_bytes_made_here_or_received() -> None:
    request = TrainRequest(round_number=2, parameters=np.array([0.5, -1.0], np.float32))
    body = request.to_bytes()
    for model in (WireModel.of(request), WireModel.received(body)):
        assert model.sha256 == hashlib.sha256(body).digest()
        assert model.parameters_sha256 == hashlib.sha256(request.parameters.tobytes()).hexdigest()
        assert b"".join(model.parts) == body
        assert "0.5" not in repr(model)
    with pytest.raises(MalformedMessage):
        WireModel.received(body[:-1])
