"""Attack 8: invented sites, repeated sites, cohorts and sums that hide too few inputs."""

import dataclasses

import pytest

from protocol import Roster
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import Identity


def refused(client, data, *, parameter):
    """The offer is refused and the client has shown no key."""
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(data)
    assert caught.value.reason is Misbehaviour.POLICY_REFUSED
    assert caught.value.detail.startswith(parameter)
    assert client.state == "Idle"


def sybil_spec(members, **changes):
    """The spec with one site replaced by an invented one."""
    return dataclasses.replace(members.spec, cohort=(*members.ids[:4], "sybil-1"), **changes)


def test_a_cohort_with_an_invented_site(hostile, federation):
    members = federation()
    members.identities["sybil-1"] = Identity("sybil-1", seed=b"s" * 32)
    spec = sybil_spec(members)
    server = hostile(spec=members.spec)
    server.spec, server.context = spec, spec.context
    refused(members.client(members.ids[0]), server.offer(), parameter="cohort")


def test_a_roster_that_the_server_made_itself(hostile, federation):
    members = federation()
    keys = dict(members.roster.members) | {
        "sybil-1": Identity("sybil-1", seed=b"s" * 32).public_key
    }
    forged = Roster.create(
        federation_id="hospitals",
        owner_key=members.roster.owner_key,
        server_key=members.roster.server_key,
        keys=keys,
    )
    server = hostile(members)
    server.spec = sybil_spec(members, roster_hash=forged.hash)
    server.context = server.spec.context
    refused(members.client(members.ids[0]), server.offer(), parameter="roster_hash")
    # Not even a client that was handed the forged roster: its policy pins the real one's hash.
    fooled = members.client(members.ids[0], roster=forged)
    refused(fooled, server.offer(), parameter="roster_hash")


def test_a_roster_that_its_owner_did_not_sign(federation):
    members = federation()
    impostor = Identity("owner", seed=b"i" * 32)
    forged = dataclasses.replace(members.roster, owner_key=impostor.public_key).sign(impostor)
    with pytest.raises(RemoteProtocolError) as caught:
        Roster.load(forged, owner_key=members.owner.public_key)
    assert caught.value.reason is Misbehaviour.BAD_SIGNATURE
    honest = members.roster.sign(members.owner)
    assert Roster.load(honest, owner_key=members.owner.public_key) == members.roster


def test_keys_of_a_site_outside_the_cohort(hostile, federation, aborts):
    # A real roster member, but the announced cohort, which ctx binds, is without it.
    big = federation(6)
    spec = dataclasses.replace(big.spec, cohort=big.ids[:5])
    server = hostile(big, spec=spec).join()
    server.ads[big.ids[5]] = big.reseal(big.ids[5], server.ads[big.ids[0]])
    del server.ads[big.ids[4]]
    aborts(server.clients[big.ids[0]], server.directory(), Misbehaviour.BAD_MEMBER_SET)


def test_one_site_counted_twice(hostile, aborts):
    server = hostile().join()
    ids = list(server.clients)
    server.ads["~"] = server.ads[ids[3]]
    del server.ads[ids[4]]
    aborts(server.clients[ids[0]], server.directory(), Misbehaviour.BAD_MEMBER_SET)


def test_one_identity_under_two_names_is_no_roster(federation):
    members = federation()
    keys = dict(members.roster.members) | {"twin": members.identities[members.ids[0]].public_key}
    with pytest.raises(ValueError, match="different key"):
        Roster.create(
            federation_id="hospitals",
            owner_key=members.roster.owner_key,
            server_key=members.roster.server_key,
            keys=keys,
        )


@pytest.mark.parametrize("num_sites", [2, 3, 4])
def test_a_cohort_below_the_minimum(hostile, federation, num_sites):
    members = federation(6)
    spec = dataclasses.replace(
        members.spec,
        cohort=members.ids[:num_sites],
        quorum=num_sites,
        threshold=num_sites,
        num_colluders=1,
    )
    server = hostile(members, spec=spec)
    refused(server.clients[members.ids[0]], server.offer(), parameter="cohort")


def test_a_cohort_without_the_victim(hostile, federation):
    members = federation(6)
    spec = dataclasses.replace(members.spec, cohort=members.ids[1:])
    server = hostile(members, spec=spec)
    refused(members.client(members.ids[0]), server.offer(), parameter="cohort")


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_too_few_advertisers(hostile, aborts, kept):
    server = hostile().join()
    ids = list(server.clients)
    ads = {id: server.ads[id] for id in ids[:kept]}
    aborts(server.clients[ids[0]], server.directory(ads), Misbehaviour.BELOW_QUORUM)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_too_few_dealers(hostile, aborts, kept):
    server = hostile().join().deal()
    ids = list(server.clients)
    data = server.delivery(ids[0], dealers=ids[:kept])
    aborts(server.clients[ids[0]], data, Misbehaviour.BELOW_QUORUM)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_sum_over_one_or_a_few(hostile, aborts, kept):
    server = hostile().join().deal().mask()
    ids = list(server.clients)
    aborts(server.clients[ids[0]], server.survivors(ids[:kept]), Misbehaviour.BELOW_QUORUM)


def test_so_many_colluders_that_fewer_than_three_honest_inputs_are_left(hostile, federation):
    members = federation()
    spec = dataclasses.replace(members.spec, num_colluders=2)
    server = hostile(members, spec=spec)
    refused(server.clients[members.ids[0]], server.offer(), parameter="quorum")


def test_fewer_colluders_than_the_policy_fears(hostile, federation):
    members = federation(16, collusion=0.2)
    spec = dataclasses.replace(members.spec, num_colluders=3)
    server = hostile(members, spec=spec)
    refused(server.clients[members.ids[0]], server.offer(), parameter="num_colluders")
