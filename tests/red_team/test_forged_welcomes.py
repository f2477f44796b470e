"""Whoever carries welcomes lies, or their signer does: nobody joins what the owner did not found.

The ways between the parties are an attacker's, but for the telephone; an attacker may also be a
site, or the server, with true keys of its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
)

from ceremony import HOST, Ceremony, files_of, owner_of, refusal
from phoenix_secure.federation.deployment.certificates import Authority
from phoenix_secure.federation.deployment.join_request import read_request
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.welcome import MAX_WELCOME_SIZE, Welcome, read_welcome
from protocol import Identity, Roster
from protocol.suite import Suite

CLASSICAL = Suite.CLASSICAL


def forged_welcome(signed: Ceremony, party: str, owner: Identity, **changes: object) -> Path:
    """The welcome of ``party`` with ``changes``, signed by ``owner``."""
    true = read_welcome(signed.welcome_file(party))
    path = signed.root / "forged.welcome"
    path.write_bytes(dataclasses.replace(true, **changes).sign(owner))
    return path


def refused(signed: Ceremony, party: str, welcome: Path, said: str) -> None:
    with refusal(signed.place(party), said):
        signed.open(party, welcome).complete(heard=signed.owner.fingerprint.words)


def test_true_welcome_is_taken(signed: Ceremony) -> None:
    """So that the refusals below are of the lie."""
    again = forged_welcome(signed, "clinic", owner_of(signed))
    signed.open("clinic", again).complete(heard=signed.owner.fingerprint.words)
    assert SiteFolder(signed.place("clinic")).settings().site == "clinic"


def test_federation_of_another_owner_has_other_words(signed: Ceremony) -> None:
    """Who takes the request on its way can welcome the site to a federation of its own."""
    mallory = Ceremony(signed.root / "elsewhere")
    mallory.prepare_and_admit("server", "hospital")
    request = read_request(signed.request_file("clinic"))
    mallory.owner.admit(request, heard=request.fingerprint.words)
    mallory.owner.sign()
    refused(signed, "clinic", mallory.welcome_file("clinic"), "words are not those of the fed")


def test_welcome_that_another_key_signed_is_refused(signed: Ceremony) -> None:
    forged = forged_welcome(signed, "clinic", Identity.generate("owner"), host="evil.example.org")
    refused(signed, "clinic", forged, "owner's key in it did not sign it")


def test_welcome_of_another_party_is_refused(signed: Ceremony) -> None:
    refused(signed, "clinic", signed.welcome_file("hospital"), r"ask the owner for clinic\.welcome")
    refused(signed, "server", signed.welcome_file("hospital"), r"ask the owner for server\.welcome")
    refused(signed, "clinic", signed.welcome_file("server"), r"ask the owner for clinic\.welcome")


def swapped_roster(signed: Ceremony, owner: Identity, **keys: bytes | None) -> bytes:
    true = signed.owner.roster()
    assert true is not None
    held = dict(true.members) | {"server": true.server_key} | keys
    members = {site: key for site, key in held.items() if site != "server" and key is not None}
    return Roster.create(
        federation_id="net",
        owner_key=owner.public_key,
        server_key=held["server"],
        keys=members,
    ).sign(owner)


def test_roster_with_a_swapped_key_is_refused_by_whom_it_robs(signed: Ceremony) -> None:
    owner, other = owner_of(signed), Identity.generate("x").public_key
    for party, said in (("clinic", "another key than this"), ("server", "another key than this")):
        roster = swapped_roster(signed, owner, **{party: other})
        refused(signed, party, forged_welcome(signed, party, owner, roster=roster), said)
    without = swapped_roster(signed, owner, clinic=None)
    forged = forged_welcome(signed, "clinic", owner, roster=without)
    refused(signed, "clinic", forged, "clinic is not in the roster: ask the owner to admit")


def test_two_rosters_of_one_owner_have_other_words(signed: Ceremony) -> None:
    """An owner that gives each site another roster is found when two of them compare."""
    owner = owner_of(signed)
    roster = swapped_roster(signed, owner, hospital=Identity.generate("sybil").public_key)
    forged = forged_welcome(signed, "clinic", owner, roster=roster)
    words = signed.owner.fingerprint.words
    clinic = signed.open("clinic", forged).complete(heard=words)
    hospital = signed.open("hospital").complete(heard=words)
    assert clinic.words != hospital.words


def test_roster_of_another_owner_or_federation_is_refused(signed: Ceremony) -> None:
    owner, stranger = owner_of(signed), Identity.generate("owner")
    foreign = swapped_roster(signed, stranger)
    forged = forged_welcome(signed, "clinic", owner, roster=foreign)
    refused(signed, "clinic", forged, "is not signed by the owner's key")
    true = signed.owner.roster()
    assert true is not None
    renamed = dataclasses.replace(true, federation_id="other").sign(owner)
    forged = forged_welcome(signed, "clinic", owner, roster=renamed)
    refused(signed, "clinic", forged, "the roster in the welcome is of the federation 'other'")


def test_certificate_for_another_key_name_or_purpose_is_refused(signed: Ceremony) -> None:
    owner, other = owner_of(signed), read_welcome(signed.welcome_file("hospital"))
    authority = Authority.load(
        (signed.owner.path / "ca.crt").read_bytes(), (signed.owner.path / "ca.key").read_bytes()
    )
    own = read_request(signed.request_file("clinic")).tls_key
    elsewhere = Authority.make("net", days=9)
    cases: list[tuple[dict[str, bytes], str]] = [
        ({"certificate": other.certificate}, "for another key than the one in this folder"),
        (
            {"certificate": authority.certify_client(own, name="hospital", days=9)},
            "for another name",
        ),
        (
            {"certificate": authority.certify_server(own, federation="net", hosts=[HOST], days=9)},
            "for another purpose",
        ),
        (
            {"certificate": elsewhere.certify_client(own, name="clinic", days=9)},
            "not signed by the federation's authority",
        ),
        ({"ca_certificate": elsewhere.pem}, "not signed by the federation's authority"),
        ({"ca_certificate": other.certificate}, "not signed by the federation's authority"),
        ({"certificate": b""}, "not signed by the federation's authority"),
    ]
    for changes, said in cases:
        refused(signed, "clinic", forged_welcome(signed, "clinic", owner, **changes), said)


def test_server_is_not_certified_for_another_host(signed: Ceremony) -> None:
    owner = owner_of(signed)
    authority = Authority.load(
        (signed.owner.path / "ca.crt").read_bytes(), (signed.owner.path / "ca.key").read_bytes()
    )
    own = read_request(signed.request_file("server")).tls_key
    elsewhere = authority.certify_server(own, federation="net", hosts=["x.example"], days=9)
    forged = forged_welcome(signed, "server", owner, certificate=elsewhere)
    refused(signed, "server", forged, "for another name")
    forged = forged_welcome(signed, "server", owner, host="x.example")
    refused(signed, "server", forged, r"reach this server at x\.example:9443")


def test_node_of_a_stranger_is_not_let_in(signed: Ceremony) -> None:
    owner = owner_of(signed)
    true: Welcome = read_welcome(signed.welcome_file("server"))
    clinic, hospital = true.nodes["clinic"], true.nodes["hospital"]
    for nodes in (
        {"clinic": clinic},
        {"clinic": clinic, "hospital": hospital, "mallory": clinic},
        {"clinic": clinic, "hospital": clinic},
        {},
    ):
        refused(
            signed,
            "server",
            forged_welcome(signed, "server", owner, nodes=nodes),
            "the node keys in the welcome are not those",
        )
    forged = forged_welcome(signed, "clinic", owner, nodes={"clinic": hospital})
    refused(signed, "clinic", forged, "the node keys in the welcome are not those")


def test_welcome_cannot_be_cut_stretched_or_linked(signed: Ceremony, tmp_path: Path) -> None:
    true = signed.welcome_file("clinic").read_bytes()
    path = tmp_path / "w.welcome"
    for size in range(0, len(true), 97):
        path.write_bytes(true[:size])
        refused(signed, "clinic", path, "is no welcome")
    path.write_bytes(true + b"\0")
    refused(signed, "clinic", path, "is no welcome")
    path.write_bytes(bytes(MAX_WELCOME_SIZE + 1))
    refused(signed, "clinic", path, "is larger than")
    path.unlink()
    path.symlink_to(signed.welcome_file("clinic"))
    refused(signed, "clinic", path, "is a link")


# Folders, and what leaves them.


def test_folder_with_a_key_of_another_does_not_join(signed: Ceremony) -> None:
    """Keys that were exchanged behind the request's back."""
    for name in ("identity.key", "door.key", "node.key"):
        kept = (signed.place("clinic") / name).read_bytes()
        (signed.place("clinic") / name).write_bytes((signed.place("hospital") / name).read_bytes())
        refused(signed, "clinic", signed.welcome_file("clinic"), "are not those of clinic.request")
        (signed.place("clinic") / name).write_bytes(kept)
    (signed.place("clinic") / "task.secret").chmod(0o644)
    refused(signed, "clinic", signed.welcome_file("clinic"), "chmod 600")
    (signed.place("clinic") / "task.secret").chmod(0o600)
    (signed.place("clinic") / "node.key").write_bytes(b"-----BEGIN NOTHING-----")
    refused(signed, "clinic", signed.welcome_file("clinic"), "holds no key of its kind")
    (signed.place("clinic") / "node.key").unlink()
    (signed.place("clinic") / "node.key").symlink_to(signed.place("hospital") / "node.key")
    refused(signed, "clinic", signed.welcome_file("clinic"), "must be a plain file, not a link")


@pytest.mark.parametrize("suite", ["classical", "hybrid_pq"])
def test_no_secret_leaves_the_folder_it_was_born_in(tmp_path: Path, suite: str) -> None:
    """Neither whole, nor in PEM's or hexadecimal letters, nor as the number behind it."""
    ceremony = Ceremony(tmp_path, suite=suite)
    ceremony.make(["clinic", "hospital"])
    everything = files_of(tmp_path)
    secrets = {
        name: content for name, content in everything.items() if name.endswith((".key", ".secret"))
    }
    assert len(secrets) == 2 + 3 + 2 * 5
    for name, content in secrets.items():
        parts = [content.strip(), content.hex().encode()]
        if content.startswith(b"-----"):
            # The first line begins with the kind of the key, the last may be its padding.
            parts += [line for line in content.split(b"\n")[2:-2] if len(line) > 48]
            parts += [_number_of(content), _number_of(content).hex().encode()]
        for part in parts:
            assert len(part) >= 16
            assert [other for other, text in everything.items() if part in text] in ([name], [])


def _number_of(pem: bytes) -> bytes:
    load = load_ssh_private_key if b"OPENSSH" in pem else load_pem_private_key
    key = load(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(key.key_size // 8)
