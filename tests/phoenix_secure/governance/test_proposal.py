"""A proposal is what the roster's server signed for this site and this plan, or it is nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.governance.proposal import MAIN, PLAN, PROPOSAL, Proposal
from protocol import SERVER, Identity, Roster

CODE = "ab" * 32
SERVER_IDENTITY = Identity.generate(SERVER)
OWNER = Identity.generate("owner")


def make_roster(*, server: Identity = SERVER_IDENTITY, federation: str = "test") -> Roster:
    return Roster.create(
        federation_id=federation,
        owner_key=OWNER.public_key,
        server_key=server.public_key,
        keys={f"s{i}": Identity.generate(f"s{i}").public_key for i in range(5)},
    )


ROSTER = make_roster()


def make_plan(*overrides: str, roster: Roster = ROSTER) -> Plan:
    config = ["data.name=digits", "data.image_size=8", "data.channels=1", "partition.num_sites=5"]
    return Plan.make(load_config(None, [*config, *overrides]), roster=roster, bundle_hash="cd" * 32)


def make(**changes) -> Proposal:
    fields = {
        "site": "s1",
        "plan": make_plan(),
        "code": CODE,
        "release": "consortium",
        "purpose": "study of consent",
    }
    return Proposal(**(fields | changes))


FILES = make().files(server=SERVER_IDENTITY)


def read(files, *, site: str = "s1", roster: Roster = ROSTER) -> Proposal:
    return Proposal.read(files, site=site, roster=roster)


def test_reading_gives_what_was_proposed() -> None:
    assert read(FILES) == make()


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, "exactly the files"),
        (FILES | {"extra.py": b""}, "exactly the files"),
        (FILES | {MAIN: b"import os\n"}, "is a program"),
        (FILES | {PLAN: make_plan("seed=1").to_bytes()}, "not the one that the server signed"),
        (FILES | {PLAN: b"{}"}, "fields"),
        (FILES | {PROPOSAL: b""}, "cannot be read"),
        (FILES | {PROPOSAL: b"[" * 99_999}, "cannot be read"),
        (FILES | {PROPOSAL: b"{}"}, "not signed"),
        (FILES | {PROPOSAL: b"\xff"}, "cannot be read"),
        (make().files(server=Identity.generate(SERVER)), "not signed"),
        (make(site="s2").files(server=SERVER_IDENTITY), "another site"),
    ],
)
def test_what_the_server_did_not_sign_for_this_site_is_refused(files, named) -> None:
    with pytest.raises(ConfigError, match=named):
        read(files)


def test_other_federations_and_rosters_are_refused() -> None:
    with pytest.raises(ConfigError, match="another site or federation"):
        read(FILES, roster=make_roster(federation="other"))
    with pytest.raises(ConfigError, match="another roster"):
        read(FILES, roster=make_roster())


@given(st.data())
def test_no_changed_byte_of_the_signed_envelope_is_read_as_another_proposal(data) -> None:
    content = bytearray(FILES[PROPOSAL])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        again = read(FILES | {PROPOSAL: bytes(content)})
    except ConfigError:
        return
    assert again == make()  # white space, or the hint that nobody signs


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"release": "press"}, "release"),
        ({"purpose": " "}, "purpose"),
        ({"purpose": "x" * 1001}, "purpose"),
        ({"purpose": "fine\n\x1b[2Jall clear"}, "printable"),
        ({"code": "AB" * 32}, "SHA-256"),
        ({"site": "../s1"}, "site name"),
    ],
)
def test_proposals_that_cannot_be_shown_are_not_made(changes, named) -> None:
    with pytest.raises(ConfigError, match=named):
        make(**changes)


def test_proposal_names_release_and_purpose_in_what_is_signed() -> None:
    envelope = json.loads(FILES[PROPOSAL])
    assert set(envelope) == {"payload", "payloadType", "signatures"}
    weaker = make(release="public").files(server=SERVER_IDENTITY)
    assert json.loads(weaker[PROPOSAL])["signatures"] != envelope["signatures"]
