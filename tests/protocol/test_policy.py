"""No parameter of a round can be weakened: each field of RoundSpec has its downgrade here."""

import dataclasses

import pytest

from protocol import ClientPolicy
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.spec import RoundSpec
from protocol.suite import Suite

TWENTY = tuple(f"site-{i:03d}" for i in range(20))

# What a server could gain by each change is said in the comment.
DOWNGRADES = {
    # Another federation's promises.
    "federation_id": {"federation_id": "clinics"},
    # Invented sites with keys of the server.
    "roster_hash": {"roster_hash": bytes(32)},
    # Fewer sites to hide among; this site left out; an id that nobody has.
    "cohort": {"cohort": TWENTY[:4], "quorum": 4, "threshold": 4, "num_colluders": 1},
    "cohort (own id)": {"cohort": TWENTY[1:]},
    "cohort (stranger)": {"cohort": (*TWENTY[:19], "zombie")},
    # Sums of other vectors, whose words mean something else.
    "num_words": {"num_words": 18},
    "extra_bounds": {"extra_bounds": (999,)},
    # Few bits per word: sums show signs.
    "word_bits": {"word_bits": 16},
    # A scale that rounds all to zero or one; a clip that clips nothing.
    "scale": {"scale": 0.001},
    "clip": {"clip": 2000.0},
    # One share rebuilds a secret, one signature unlocks the sum.
    "threshold": {"threshold": 11, "quorum": 11, "num_colluders": 1},
    "quorum": {"quorum": 12, "threshold": 12, "num_colluders": 3},
    # No collusion assumed.
    "num_colluders": {"num_colluders": 3},
    # A sparse graph on which a site can be cut off.
    "degree": {"degree": 16},
    # Keys of another kind than the roster's.
    "suite": {"suite": Suite.HYBRID_PQ},
    # No noise: the differential privacy is gone.
    "noise_variance": {"noise_variance": 0.0},
    "privacy_hash": {"privacy_hash": bytes(32)},
    # Other training settings than the site approved.
    "policy_hash": {"policy_hash": bytes(32)},
}
# Checked by the session and not by the policy: replay, wrong model, another history.
BY_SESSION = {"round", "attempt", "model_hash", "previous"}


@pytest.fixture
def members(federation):
    return federation(20, noise_variance=9.0)


def refuse(members, policy, spec):
    with pytest.raises(RemoteProtocolError) as caught:
        policy.check(spec, own_id=members.ids[0], roster=members.roster)
    assert caught.value.reason is Misbehaviour.POLICY_REFUSED
    return caught.value.detail


def test_every_field_has_its_downgrade():
    covered = {name.split(" ")[0] for name in DOWNGRADES}
    assert covered | BY_SESSION == {field.name for field in dataclasses.fields(RoundSpec)}


def test_the_agreed_round_is_accepted(members):
    members.policy.check(members.spec, own_id=members.ids[0], roster=members.roster)


@pytest.mark.parametrize("name", DOWNGRADES)
def test_a_downgrade_is_refused_by_name(members, name):
    spec = dataclasses.replace(members.spec, **DOWNGRADES[name])
    detail = refuse(members, members.policy, spec)
    assert detail.startswith(name.split(" ")[0]) or name in ("threshold", "quorum")


@pytest.mark.parametrize("name", DOWNGRADES)
def test_a_session_refuses_the_downgrade_and_hears_the_next_offer(members, name):
    client = members.client(members.ids[0])
    spec = dataclasses.replace(members.spec, **DOWNGRADES[name])
    server = members.server()
    honest = server.start().outbound[members.ids[0]]
    forged = members.reseal("server", honest, body=spec.encode(), context=spec.context)
    with pytest.raises(RemoteProtocolError):
        client.receive(forged)
    assert client.state == "Idle"
    client.receive(honest)
    assert client.state == "Offered"


def test_stricter_parameters_than_the_policys_are_welcome(members):
    spec = dataclasses.replace(members.spec, num_colluders=6, quorum=15, threshold=15)
    members.policy.check(spec, own_id=members.ids[0], roster=members.roster)


def test_a_roster_that_is_not_the_pinned_one_is_refused(members, federation):
    other = federation(20, seed=b"another roster")
    spec = dataclasses.replace(members.spec)
    with pytest.raises(RemoteProtocolError, match="roster_hash"):
        members.policy.check(spec, own_id=members.ids[0], roster=other.roster)


def test_the_regular_graph_is_accepted_only_within_its_own_bounds(members):
    sparse = dataclasses.replace(members.spec, degree=16, threshold=12)
    allowed = dataclasses.replace(members.policy, min_degree=16, min_threshold=12)
    allowed.check(sparse, own_id=members.ids[0], roster=members.roster)
    wider = dataclasses.replace(allowed, min_degree=18)
    assert refuse(members, wider, sparse).startswith("degree")
    higher = dataclasses.replace(allowed, min_threshold=13)
    assert refuse(members, higher, sparse).startswith("threshold")
    # More neighbours, more colluders among them: the same threshold would rebuild both secrets.
    denser = dataclasses.replace(sparse, degree=18)
    assert refuse(members, allowed, denser) == "threshold is 12, too low for 18 neighbours"
    denser = dataclasses.replace(denser, threshold=14)
    allowed.check(denser, own_id=members.ids[0], roster=members.roster)
    # The global quorum holds on the sparse graph as well.
    weak = dataclasses.replace(sparse, quorum=12, num_colluders=3)
    assert refuse(members, allowed, weak).startswith("num_colluders")


@pytest.mark.parametrize(
    "change",
    [
        {"collusion": -0.1},
        {"collusion": 1.0},
        {"collusion": float("nan")},
        {"min_cohort": 4},
        {"min_honest": 2},
        {"min_degree": 4},
        {"min_threshold": 4},
        {"min_degree": -2, "min_threshold": -1},
    ],
)
def test_a_policy_below_the_floor_cannot_be_made(members, change):
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(members.policy, **change)


def test_the_floor_on_honest_inputs_holds_beside_the_quorum_rule(members):
    policy = dataclasses.replace(members.policy, min_honest=10)
    assert "honest" in refuse(members, policy, members.spec)


def test_the_policy_has_a_default_for_nothing_that_differs_between_federations():
    required = {
        field.name
        for field in dataclasses.fields(ClientPolicy)
        if field.default is dataclasses.MISSING
    }
    assert required >= {"federation_id", "roster_hash", "policy_hash", "privacy_hash"}
