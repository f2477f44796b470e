"""A whole round, frozen: no release may change a byte on the wire without a new version."""

import json
import os
from pathlib import Path

import pytest

from protocol import ProtocolError, SessionAborted
from protocol.entropy import insecure_counter_entropy
from protocol.words import centre

FILE = Path(__file__).with_name("vectors_data") / "round.json"


@pytest.fixture(scope="module")
def built(simulation, oracles, frozen):
    made = frozen.build(simulation, oracles, insecure_counter_entropy)
    if os.environ.get("PHOENIX_WRITE_VECTORS"):
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(made, indent=1) + "\n")
    return made


@pytest.fixture(scope="module")
def recorded(built):
    return json.loads(FILE.read_text())


def replay(frozen, simulation, recorded, count):
    """Sessions after the first ``count`` recorded messages."""
    played = frozen.Replay(simulation, frozen.members_of(simulation))
    for sender, receiver, data in recorded["wire"][:count]:
        played.feed(sender, receiver, bytes.fromhex(data))
    return played


def test_the_file_is_what_the_second_implementation_makes(built, recorded):
    assert recorded == built


def test_the_sessions_say_every_recorded_byte_and_reach_the_sum(frozen, simulation, recorded):
    played = replay(frozen, simulation, recorded, len(recorded["wire"]))
    assert not played.pending.keys() - {("site-003", "server")}
    completed = played.completed
    words = [int(w) for w in centre(completed.words, word_bits=24)] + list(completed.extra)
    assert [w % 2**24 for w in words] == recorded["sum_modulo_2_24"]
    assert words == played.members.expected(completed.survivors)
    assert completed.transcript_hash.hex() == recorded["transcript_hash"]


@pytest.mark.parametrize("number", range(10))
def test_recorded_lies_are_refused(frozen, simulation, recorded, number):
    assert len(recorded["must_fail"]) == 10
    step = recorded["must_fail"][number]
    played = replay(frozen, simulation, recorded, step["before"])
    if step["from"] == "server" and ("server", step["to"]) not in played.pending:
        played.server.close_stage()
    with pytest.raises(ProtocolError) as caught:
        played.hand(step["to"], step["from"], bytes.fromhex(step["hex"]))
    assert caught.value.reason.name == step["raises"]
    if isinstance(caught.value, SessionAborted):
        assert caught.value.culprits == ("server",)
