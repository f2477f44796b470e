"""Rounds in the clear: one answer for each round."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.site.plaintext_once import PlaintextOnce


def request(number: int, value: float = 0.0) -> bytes:
    parameters = np.full(3, value, np.float32)
    return TrainRequest(round_number=number, parameters=parameters).to_bytes()


def make() -> tuple[PlaintextOnce, list[bytes]]:
    calls: list[bytes] = []

    def handle(stage: str, body: bytes) -> bytes:
        calls.append(body)
        return f"answer {len(calls)}".encode()

    return PlaintextOnce(handle), calls


def refused(site: PlaintextOnce, stage: str, body: bytes) -> FailureCode:
    with pytest.raises(SiteFailure) as caught:
        site(stage, body)
    return caught.value.code


def test_same_request_gets_the_same_answer() -> None:
    site, calls = make()
    assert site("train", request(1)) == site("train", request(1)) == b"answer 1"
    assert len(calls) == 1


def test_another_model_in_the_same_round_is_refused() -> None:
    site, calls = make()
    site("train", request(1))
    assert refused(site, "train", request(1, value=1.0)) is FailureCode.REFUSED
    assert len(calls) == 1


def test_past_rounds_are_refused_and_later_ones_answered() -> None:
    site, _ = make()
    site("train", request(2))
    assert refused(site, "train", request(1)) is FailureCode.REFUSED
    assert site("train", request(3)) == b"answer 2"


def test_other_stages_and_rubbish_never_reach_the_trainer() -> None:
    site, calls = make()
    assert refused(site, "announce", request(1)) is FailureCode.REFUSED
    assert refused(site, "train", b"rubbish") is FailureCode.MALFORMED
    assert calls == []
