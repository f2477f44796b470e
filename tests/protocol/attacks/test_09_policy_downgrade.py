"""Attack 9: offer a round with weaker parameters; each parameter is one way to see an input."""

import dataclasses
import math

import pytest

from protocol import RoundSpec
from protocol.errors import LocalProtocolError, Misbehaviour, RemoteProtocolError

DOWNGRADES = {
    "threshold of one": {"threshold": 1},
    "quorum of one": {"quorum": 1, "threshold": 1},
    "quorum one lower": {"quorum": 3, "threshold": 3},
    "threshold below the quorum": {"threshold": 3},
    "no colluders": {"num_colluders": 0},
    "one-bit words": {"word_bits": 1},
    "two-bit words": {"word_bits": 2},
    "other words": {"word_bits": 16},
    "tiny scale": {"scale": 1e-6},
    "zero scale": {"scale": 0.0},
    "huge scale": {"scale": 1e5},
    "infinite scale": {"scale": 1e300, "clip": 1e300},
    "huge clip": {"clip": 1e4},
    "negative clip": {"clip": -2.0},
    "less noise": {"noise_variance": 99.0},
    "no noise": {"noise_variance": 0.0},
    "negative noise": {"noise_variance": -1.0},
    "endless noise": {"noise_variance": 1e308},
    "fewer words": {"num_words": 18},
    "one word": {"num_words": 1},
    "too many words": {"num_words": 1 << 40},
    "no extra words": {"extra_bounds": ()},
    "other extra bound": {"extra_bounds": (1,)},
    "endless extra bound": {"extra_bounds": ((1 << 64) - 1,)},
    "a sparse graph": {"degree": 2, "threshold": 2},
    "the sparsest allowed by arithmetic": {"degree": 4},
    "other privacy parameters": {"privacy_hash": bytes(32)},
    "another training policy": {"policy_hash": bytes(32)},
    "another roster": {"roster_hash": bytes(32)},
    "another federation": {"federation_id": "elsewhere"},
    "another past": {"previous": bytes(32)},
}


def forge(spec, **changes):
    """A specification that our own class would refuse to make."""
    forged = object.__new__(RoundSpec)
    for field in dataclasses.fields(RoundSpec):
        object.__setattr__(forged, field.name, changes.get(field.name, getattr(spec, field.name)))
    return forged


def encodable(spec):
    """Negative numbers do not exist on the wire as such: floats only."""
    return all(getattr(spec, name) >= 0 for name in ("threshold", "quorum", "num_colluders"))


@pytest.fixture
def members(federation):
    return federation(noise_variance=100.0)


@pytest.mark.parametrize("name", DOWNGRADES)
def test_a_weaker_parameter_is_refused_before_any_key_is_shown(hostile, members, name):
    spec = forge(members.spec, **DOWNGRADES[name])
    assert encodable(spec)
    server = hostile(members, previous=members.spec.previous)
    server.spec, server.context = spec, spec.context
    client = server.clients[members.ids[0]]
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(server.offer())
    assert caught.value.reason in (Misbehaviour.POLICY_REFUSED, Misbehaviour.MALFORMED)
    assert client.state == "Idle"
    with pytest.raises(LocalProtocolError):
        client.accept_model(b"the exact bytes of a model")
    # The honest offer is still open to the site.
    server.spec, server.context = members.spec, members.spec.context
    assert client.receive(server.offer()).events


@pytest.mark.parametrize("name", ["scale", "clip", "noise_variance"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_malformed(hostile, members, monkeypatch, name, value):
    spec = forge(members.spec, **{name: value})
    monkeypatch.setattr("protocol.encoding.math.isfinite", lambda _: True)
    server = hostile(members)
    server.spec, server.context = spec, spec.context
    data = server.offer()
    monkeypatch.undo()
    with pytest.raises(RemoteProtocolError) as caught:
        server.clients[members.ids[0]].receive(data)
    assert caught.value.reason is Misbehaviour.MALFORMED


def test_every_parameter_of_a_round_is_attacked_here_or_in_a_test_of_its_own():
    attacked = {name for changes in DOWNGRADES.values() for name in changes}
    elsewhere = {
        "round",  # attack 5
        "attempt",  # bound by ctx; attacks 3, 4 and 13
        "cohort",  # attack 8
        "model_hash",  # attacks 10 and 11
        "suite",  # tests/red_team/test_suite_downgrade.py
    }
    assert attacked | elsewhere == {field.name for field in dataclasses.fields(RoundSpec)}


@pytest.mark.parametrize(
    "changes",
    [
        {"degree": 4, "share_threshold": 4},
        {"degree": 6, "share_threshold": 4},
    ],
    ids=["degree", "threshold"],
)
def test_a_policy_that_allows_sparse_graphs_still_has_a_floor(federation, hostile, changes):
    allowed = federation(9, degree=6, share_threshold=5)
    offered = federation(9, **changes)
    server = hostile(allowed)
    server.spec = dataclasses.replace(
        offered.spec, roster_hash=allowed.roster.hash, quorum=allowed.spec.quorum
    )
    server.context = server.spec.context
    with pytest.raises(RemoteProtocolError) as caught:
        server.clients[allowed.ids[0]].receive(server.offer())
    assert caught.value.reason is Misbehaviour.POLICY_REFUSED
