"""The roster: signed by its owner, compared by fingerprint, one key per site."""

import dataclasses
import hashlib

import pytest

from protocol.encoding import Reader, encode
from protocol.entropy import insecure_counter_entropy
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import SERVER, Identity
from protocol.roster import MAX_EPOCH, Roster
from protocol.roster_changes import ChangeKind, RosterChange


def identity(id):
    return Identity.generate(id, entropy=insecure_counter_entropy(id.encode()))


OWNER, CENTRE = identity("owner"), identity(SERVER)
SITES = {id: identity(id).public_key for id in ("b", "a", "c")}
ROSTER = Roster.create(
    federation_id="hospitals",
    owner_key=OWNER.public_key,
    server_key=CENTRE.public_key,
    keys=SITES,
)
REVOKED = RosterChange(kind=ChangeKind.REVOKED, party="d", reason="key lost")
LATER = dataclasses.replace(ROSTER, epoch=2, previous=b"h" * 32, changes=(REVOKED,))


def test_a_signed_roster_loads_back():
    assert Roster.load(ROSTER.sign(OWNER), owner_key=OWNER.public_key) == ROSTER
    assert [id for id, _ in ROSTER.members] == ["a", "b", "c"]
    assert Roster.load(LATER.sign(OWNER), owner_key=OWNER.public_key) == LATER


def test_a_first_roster_is_byte_for_byte_that_of_older_versions():
    """Their federations, plans and evidence name its hash."""
    members = encode(encode([id.encode(), key]) for id, key in ROSTER.members)
    keys = OWNER.public_key, CENTRE.public_key
    body = encode([b"FSA1/roster", b"hospitals", *keys, members])
    assert ROSTER.hash == hashlib.sha256(body).digest()
    assert ROSTER.sign(OWNER) == encode([body, OWNER.sign(body)])


def test_a_first_roster_in_the_form_of_a_later_one_is_refused():
    """One roster has one form, and so one hash."""
    body = bytearray(Reader(LATER.sign(OWNER), peer="x").view("body", max_size=10_000))
    body[body.index(LATER.previous) - 4 - 1] = 1
    with pytest.raises(RemoteProtocolError, match="the first has another form"):
        Roster.load(encode([bytes(body), OWNER.sign(bytes(body))]), owner_key=OWNER.public_key)


def test_keys_are_found_by_id():
    assert ROSTER.key("b") == SITES["b"]
    assert ROSTER.key(SERVER) == CENTRE.public_key
    assert ROSTER.key("d") is None


def test_another_owner_is_refused():
    other = identity("other-owner")
    with pytest.raises(ValueError, match="owner_key"):
        ROSTER.sign(other)
    with pytest.raises(RemoteProtocolError) as caught:
        Roster.load(ROSTER.sign(OWNER), owner_key=other.public_key)
    assert caught.value.reason is Misbehaviour.BAD_SIGNATURE


def test_a_roster_that_names_another_owner_is_refused():
    other = identity("other-owner")
    theirs = dataclasses.replace(ROSTER, owner_key=other.public_key)
    body = Reader(theirs.sign(other), peer="x").view("body", max_size=10_000)
    swapped = encode([bytes(body), OWNER.sign(bytes(body))])
    with pytest.raises(RemoteProtocolError, match="another owner"):
        Roster.load(swapped, owner_key=OWNER.public_key)


@pytest.mark.parametrize("roster", [ROSTER, LATER], ids=["first", "later"])
def test_every_flipped_byte_and_every_cut_is_refused(roster):
    data = roster.sign(OWNER)
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        for bad in (bytes(flipped), data[:place]):
            with pytest.raises(RemoteProtocolError):
                Roster.load(bad, owner_key=OWNER.public_key)


def test_the_fingerprint_changes_with_every_field():
    changes = [
        {"federation_id": "clinics"},
        {"owner_key": identity("x").public_key},
        {"server_key": identity("x").public_key},
        {"members": ROSTER.members[:2]},
        {"members": (("a", identity("x").public_key), *ROSTER.members[1:])},
    ]
    later = [
        *changes,
        {"epoch": 3},
        {"previous": b"i" * 32},
        {"changes": (dataclasses.replace(REVOKED, kind=ChangeKind.SUSPENDED),)},
        {"changes": (dataclasses.replace(REVOKED, party="e"),)},
        {"changes": (dataclasses.replace(REVOKED, reason="key lost?"),)},
        {"changes": ()},
    ]
    prints = {dataclasses.replace(ROSTER, **change).fingerprint for change in changes}
    prints |= {dataclasses.replace(LATER, **change).fingerprint for change in later}
    prints |= {ROSTER.fingerprint, LATER.fingerprint}
    assert len(prints) == len(changes) + len(later) + 2
    assert ROSTER.fingerprint.replace(" ", "") == ROSTER.hash.hex()


@pytest.mark.parametrize(
    "change",
    [
        {"members": ()},
        {"members": (("b", bytes(32)), ("a", bytes(31) + b"1"))},
        {"members": (("a", bytes(32)), ("a", bytes(31) + b"1"))},
        {"members": (("a", bytes(32)), ("b", bytes(32)))},
        {"members": (("a", CENTRE.public_key),)},
        {"members": (("a", bytes(31)),)},
        {"members": (("../a", bytes(32)),)},
        {"members": ((SERVER, bytes(32)),)},
        {"owner_key": b""},
        {"server_key": b""},
        {"federation_id": ""},
        {"epoch": 0},
        {"epoch": MAX_EPOCH + 1, "previous": b"h" * 32},
        {"epoch": 2},
        {"epoch": 2, "previous": b"h" * 31},
        {"previous": b"h" * 32},
        {"changes": (RosterChange(kind=ChangeKind.ADDED, party="a"),)},
        {"epoch": 2, "previous": b"h" * 32, "changes": (REVOKED, REVOKED)},
    ],
)
def test_rosters_that_would_mislead_are_refused(change):
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(ROSTER, **change)


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "bell\a"])
def test_reasons_that_would_mislead_are_refused(reason):
    with pytest.raises(ValueError, match="printable"):
        dataclasses.replace(REVOKED, reason=reason)
    assert str(REVOKED) == "d revoked (key lost)"
