"""What a lying server, or one that works with a site, may not put among the keys."""

import dataclasses

import pytest

from protocol import Identity, SessionAborted
from protocol.messages import AdvertiseKeys, Envelope, KeyDirectory, MaskedInput

ME, OTHER = "site-000", "site-001"


@pytest.fixture
def members(federation):
    return federation(6)


def entries_of(data):
    envelope = Envelope.parse(data, peer="server", max_size=len(data))
    directory = KeyDirectory.decode(envelope.body, peer="server", max_members=100)
    return list(directory.advertisements)


def show(members, attempt, entries):
    """Give ``ME`` a directory of ``entries``, signed by the server; the abort's text."""
    body = KeyDirectory(advertisements=tuple(entries)).encode()
    with pytest.raises(SessionAborted) as caught:
        attempt.clients[ME].receive(members.reseal("server", attempt.outbound[ME], body=body))
    return str(caught.value)


@pytest.fixture
def attempt(simulation, members):
    started = simulation.Round(members)
    started.step()
    return started


def keys_in(entry):
    envelope = Envelope.parse(entry, peer="x", max_size=len(entry))
    return AdvertiseKeys.decode(envelope.body, peer="x")


def test_a_roster_member_outside_the_cohort_is_refused(simulation, members):
    spec = dataclasses.replace(members.spec, cohort=members.ids[:5])
    attempt = simulation.Round(members, spec=spec)
    attempt.step()
    entries = entries_of(attempt.outbound[ME])
    stranger = members.reseal(members.ids[5], entries[-1])
    assert "inconsistent set" in show(members, attempt, [*entries[:4], stranger])


def test_keys_that_the_server_put_in_anothers_place_are_refused(members, attempt):
    entries = entries_of(attempt.outbound[ME])
    impostor = Identity.generate(OTHER)
    envelope = Envelope.parse(entries[1], peer="x", max_size=len(entries[1]))
    body = AdvertiseKeys(mask_key=b"\x07" * 32, channel_key=b"\x08" * 32).encode()
    members.identities[OTHER] = impostor
    entries[1] = members.reseal(OTHER, entries[1], body=body)
    assert envelope.sender == OTHER
    assert "invalid signature" in show(members, attempt, entries)


def test_own_keys_of_another_session_are_refused(simulation, members, attempt):
    """Both are signed by this site for this very attempt; only one is this session's."""
    entries = entries_of(attempt.outbound[ME])
    twin = members.client(ME, attempt=9)
    twin.receive(members.server().start().outbound[ME])
    entries[0] = twin.accept_model(simulation.MODEL).outbound
    assert "own entry" in show(members, attempt, entries)


def test_swapped_own_keys_are_refused(members, attempt):
    entries = entries_of(attempt.outbound[ME])
    keys = keys_in(entries[0])
    swapped = AdvertiseKeys(mask_key=keys.channel_key, channel_key=keys.mask_key).encode()
    entries[0] = members.reseal(ME, entries[0], body=swapped)
    assert "own entry" in show(members, attempt, entries)


@pytest.mark.parametrize("source", [0, 2])
@pytest.mark.parametrize("field", ["mask_key", "channel_key"])
def test_a_colluding_site_cannot_reflect_somebodys_key(members, attempt, source, field):
    entries = entries_of(attempt.outbound[ME])
    stolen = getattr(keys_in(entries[source]), field)
    body = dataclasses.replace(keys_in(entries[1]), mask_key=stolen).encode()
    entries[1] = members.reseal(OTHER, entries[1], body=body)
    assert "public key" in show(members, attempt, entries)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_colluding_site_cannot_bring_an_unsafe_key(members, attempt, key):
    entries = entries_of(attempt.outbound[ME])
    body = dataclasses.replace(keys_in(entries[1]), mask_key=key).encode()
    entries[1] = members.reseal(OTHER, entries[1], body=body)
    assert "public key" in show(members, attempt, entries)


def test_keys_of_another_attempt_are_refused(members, attempt):
    entries = entries_of(attempt.outbound[ME])
    entries[1] = members.reseal(OTHER, entries[1], context=bytes(32))
    assert "another round" in show(members, attempt, entries)


def test_another_kind_of_message_with_the_same_layout_is_refused(members, attempt):
    """A masked input of 32 bytes has the very fields of AdvertiseKeys; only the label differs."""
    entries = entries_of(attempt.outbound[ME])
    body = b"".join(MaskedInput(h2=b"\x07" * 32, packed=b"\x08" * 32).parts())
    AdvertiseKeys.decode(body, peer="x")
    entries[1] = members.reseal(OTHER, entries[1], body=body, label=MaskedInput.LABEL)
    assert "another round" in show(members, attempt, entries)


def test_on_a_sparse_graph_the_quorum_of_members_still_counts(federation, simulation):
    members = federation(24, collusion=0.1, degree=12, share_threshold=7)
    attempt = simulation.Round(members)
    attempt.step()
    entries = entries_of(attempt.outbound[ME])[: members.spec.quorum - 1]
    assert len(entries) > 12
    assert "fewer members" in show(members, attempt, entries)
