"""Welcomes: what they hold, and that every byte of them is signed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ceremony import Ceremony
from phoenix_secure.federation.deployment.welcome import (
    Welcome,
    owner_fingerprint,
    parse_welcome,
    read_welcome,
)
from protocol import Identity, RemoteProtocolError
from protocol.encoding import encode

REFUSED = (RemoteProtocolError, ValueError)


@pytest.fixture(scope="module", params=["classical", "hybrid_pq"])
def ceremony(request, tmp_path_factory) -> Ceremony:
    made = Ceremony(tmp_path_factory.mktemp("welcome"), suite=request.param, folder=Path("/x y/ü"))
    made.prepare_and_admit("server", "clinic", "hospital")
    made.owner.sign()
    return made


def signer(ceremony: Ceremony) -> Identity:
    suite = ceremony.owner.settings().suite
    return Identity("o", seed=(ceremony.owner.path / "owner.key").read_bytes(), suite=suite)


def test_welcome_says_where_to_meet_and_who_takes_part(ceremony: Ceremony) -> None:
    server = read_welcome(ceremony.welcome_file("server"))
    clinic = read_welcome(ceremony.welcome_file("clinic"))
    assert (server.party, clinic.party) == ("server", "clinic")
    assert clinic.roster == server.roster
    assert clinic.rosters().current == ceremony.owner.roster()
    assert clinic.folder == "/x y/ü"
    assert (clinic.host, clinic.port) == (ceremony.host, ceremony.port)
    assert set(server.nodes) == {"clinic", "hospital"}
    # A site has no use for the nodes of the others.
    assert clinic.nodes == {"clinic": server.nodes["clinic"]}
    assert clinic.owner == ceremony.owner.fingerprint
    assert clinic.owner == owner_fingerprint("net", clinic.owner_key)


def test_signed_again_it_is_the_same_welcome(ceremony: Ceremony) -> None:
    clinic = read_welcome(ceremony.welcome_file("clinic"))
    assert parse_welcome(clinic.sign(signer(ceremony))) == clinic


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_and_any_truncation_is_refused(ceremony: Ceremony, data) -> None:
    true = ceremony.welcome_file("clinic").read_bytes()
    bit = data.draw(st.integers(0, 8 * len(true) - 1))
    changed = bytearray(true)
    changed[bit // 8] ^= 1 << bit % 8
    for candidate in (bytes(changed), true[: bit // 8], true + b"\0" * (1 + bit % 5)):
        with pytest.raises(REFUSED):
            parse_welcome(candidate)


@given(st.binary(max_size=300))
def test_strangers_bytes_are_refused(data: bytes) -> None:
    for candidate in (data, encode([data, data]), encode([encode([data, data]), bytes(64)])):
        with pytest.raises(REFUSED):
            parse_welcome(candidate)


@pytest.mark.parametrize(
    "changes",
    [
        {"folder": "/srv/\x1b[31mred"},
        {"folder": "/srv/a\nb"},
        {"folder": "/srv/\u202etxt"},
        {"nodes": {"clinic": bytes(96)}},
        {"ca_certificate": bytes(4097)},
        {"port": 65_536},
    ],
)
def test_what_no_welcome_holds_is_refused_though_it_is_signed(
    ceremony: Ceremony, changes: dict
) -> None:
    clinic: Welcome = read_welcome(ceremony.welcome_file("clinic"))
    forged = dataclasses.replace(clinic, **changes).sign(signer(ceremony))
    with pytest.raises(REFUSED, match=next(iter(changes)).partition("_")[0][:4]):
        parse_welcome(forged)
