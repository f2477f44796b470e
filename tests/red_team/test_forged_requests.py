"""Whoever carries join requests, or asks to join, lies: keys are to stay whose they are.

The ways between the parties are an attacker's, but for the telephone; an attacker may also be a
site, or the server, with true keys of its own.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ceremony import HOST, Ceremony
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment import join_request
from phoenix_secure.federation.deployment.join_request import (
    JoinRequest,
    read_request,
    server_request,
    site_request,
)
from phoenix_secure.federation.deployment.party_keys import ServerKeys, SiteKeys
from phoenix_secure.federation.deployment.signing_requests import make_signing_request
from protocol import Identity
from protocol.encoding import encode
from protocol.suite import Suite

CLASSICAL = Suite.CLASSICAL


def put(folder: Path, request: JoinRequest) -> JoinRequest:
    """A request as it arrives at the owner."""
    path = folder / request.file_name
    path.write_bytes(request.data)
    return read_request(path)


def ask(
    mallory: SiteKeys,
    *,
    identity_key: bytes | None = None,
    node: ec.EllipticCurvePrivateKey | None = None,
    tls_request: bytes | None = None,
    party: str = "mallory",
) -> bytes:
    """A request in which some keys are others', signed with all that Mallory has."""
    body = join_request._body(
        federation="net",
        party=party,
        suite=CLASSICAL,
        identity_key=identity_key or mallory.identity.public_key,
        tls_request=tls_request
        or make_signing_request(mallory.door, party=party, federation="net"),
        node_key=join_request.node_point((node or mallory.node).public_key()),
    )
    message = join_request._node_message(body)
    proof = mallory.node.sign(message, ec.ECDSA(hashes.SHA384()))
    return encode([body, mallory.identity.sign(body), proof])


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_request(path)
    assert path.name in str(caught.value)
    assert "ask its sender" in str(caught.value)
    return str(caught.value)


def test_identity_key_of_another_cannot_be_asked_for(tmp_path: Path) -> None:
    mallory = SiteKeys.generate("mallory", suite=CLASSICAL)
    theirs = Identity.generate("clinic").public_key
    said = refusal(tmp_path / "m.request", ask(mallory, identity_key=theirs))
    assert "the identity key in it did not sign it" in said


def test_node_key_of_another_cannot_be_asked_for(tmp_path: Path) -> None:
    mallory = SiteKeys.generate("mallory", suite=CLASSICAL)
    theirs = SiteKeys.generate("clinic", suite=CLASSICAL).node
    said = refusal(tmp_path / "m.request", ask(mallory, node=theirs))
    assert "the node key in it did not sign it" in said


def test_signing_request_of_another_cannot_be_taken_over(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    mallory = SiteKeys.generate("mallory", suite=CLASSICAL)
    theirs = read_request(ceremony.request_file("clinic")).tls_request
    said = refusal(tmp_path / "m.request", ask(mallory, tls_request=theirs))
    assert "of another party, federation or host" in said


def test_signing_request_exchanged_on_the_way_is_refused(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    """Mallory would be certified as the clinic, whose other keys stay as they are."""
    true = read_request(ceremony.request_file("clinic"))
    own = ec.generate_private_key(ec.SECP256R1())
    forged = make_signing_request(own, party="clinic", federation="net")
    if len(forged) != len(true.tls_request):  # the length before it says how long it is
        size = len(true.tls_request).to_bytes(4)
        data = true.data.replace(size + true.tls_request, len(forged).to_bytes(4) + forged)
        body = len(true.body).to_bytes(4)
        changed = len(true.body) + len(forged) - len(true.tls_request)
        data = data.replace(body, changed.to_bytes(4), 1)
    else:
        data = true.data.replace(true.tls_request, forged)
    assert "the identity key in it did not sign it" in refusal(tmp_path / "c.request", data)


def test_request_for_another_federation_is_not_admitted(tmp_path: Path) -> None:
    one, other = Ceremony(tmp_path / "1"), Ceremony(tmp_path / "2", federation="other")
    replayed = one.prepare("clinic")
    with pytest.raises(ConfigError, match="asks to join the federation 'net'") as caught:
        other.owner.admit(replayed, heard=replayed.fingerprint.words)
    assert "ask it to make its keys with that name" in str(caught.value)
    assert other.owner.admitted() == []


def test_request_of_another_in_the_same_name_has_other_words(
    ceremony: Ceremony, tmp_path: Path
) -> None:
    true = ceremony.prepare("hospital")
    forged = put(
        tmp_path,
        site_request(
            SiteKeys.generate("hospital", suite=CLASSICAL), federation="net", suite=CLASSICAL
        ),
    )
    for heard in (true.fingerprint.words, "", "yes", ceremony.owner.fingerprint.words):
        with pytest.raises(ConfigError, match="words"):
            ceremony.owner.admit(forged, heard=heard)
    assert [request.party for request in ceremony.owner.admitted()] == ["clinic", "server"]


def test_second_party_of_one_name_is_not_admitted(ceremony: Ceremony) -> None:
    for keys, name in (
        (SiteKeys.generate("clinic", suite=CLASSICAL), "clinic"),
        (ServerKeys.generate(suite=CLASSICAL), "server"),
    ):
        request = (
            site_request(keys, federation="net", suite=CLASSICAL)
            if isinstance(keys, SiteKeys)
            else server_request(keys, federation="net", suite=CLASSICAL, host=HOST, port=9443)
        )
        with pytest.raises(ConfigError, match=f"{name} is admitted with other keys") as caught:
            ceremony.owner.admit(request, heard=request.fingerprint.words)
        assert "let the newcomer take another --name, or say --replaces" in str(caught.value)


@pytest.mark.parametrize("shared", ["identity", "node", "door"])
def test_second_site_of_one_key_is_not_admitted(ceremony: Ceremony, shared: str) -> None:
    """One party under two names would vote twice, or come in by the other's door."""
    keys = SiteKeys.generate("east", suite=CLASSICAL)
    request = site_request(keys, federation="net", suite=CLASSICAL)
    ceremony.owner.admit(request, heard=request.fingerprint.words)
    other = SiteKeys.generate("west", suite=CLASSICAL)
    value = getattr(keys, shared)
    if shared == "identity":
        value = Identity("west", seed=value.export_seed())
    twin = dataclasses.replace(other, **{shared: value})
    request = site_request(twin, federation="net", suite=CLASSICAL)
    what = {"identity": "identity key", "node": "node key", "door": "TLS key"}[shared]
    with pytest.raises(ConfigError, match=f"west and east have one {what}") as caught:
        ceremony.owner.admit(request, heard=request.fingerprint.words)
    assert "each party makes keys of its own" in str(caught.value)


def test_owners_key_is_no_sites_key(ceremony: Ceremony) -> None:
    seed = (ceremony.owner.path / "owner.key").read_bytes()
    keys = dataclasses.replace(
        SiteKeys.generate("east", suite=CLASSICAL), identity=Identity("east", seed=seed)
    )
    request = site_request(keys, federation="net", suite=CLASSICAL)
    with pytest.raises(ConfigError, match="east and the federation's owner have one identity key"):
        ceremony.owner.admit(request, heard=request.fingerprint.words)


@pytest.mark.parametrize(
    ("host", "port"), [("fl.example.com", 9443), (HOST, 443), ("127.0.0.1", 9443)]
)
def test_server_that_would_be_reached_elsewhere_is_not_admitted(
    tmp_path: Path, host: str, port: int
) -> None:
    ceremony = Ceremony(tmp_path)
    request = server_request(
        ServerKeys.generate(suite=CLASSICAL),
        federation="net",
        suite=CLASSICAL,
        host=host,
        port=port,
    )
    with pytest.raises(ConfigError, match=rf"--host {HOST} --port 9443"):
        ceremony.owner.admit(request, heard=request.fingerprint.words)


def test_suite_of_a_request_cannot_be_weaker(tmp_path: Path) -> None:
    ceremony = Ceremony(tmp_path, suite="hybrid_pq")
    request = site_request(
        SiteKeys.generate("clinic", suite=CLASSICAL), federation="net", suite=CLASSICAL
    )
    with pytest.raises(ConfigError, match="make them with --suite hybrid_pq"):
        ceremony.owner.admit(request, heard=request.fingerprint.words)


def test_file_put_among_the_admitted_is_no_admission(ceremony: Ceremony, tmp_path: Path) -> None:
    """Its words were never compared: only the owner's signature makes it one."""
    forged = site_request(
        SiteKeys.generate("mallory", suite=CLASSICAL), federation="net", suite=CLASSICAL
    )
    stranger = Identity.generate("owner")
    place = ceremony.owner.path / "admitted" / "mallory.admission"
    for content in (
        forged.data,
        encode([forged.data, bytes(64)]),
        encode([forged.data, stranger.sign(encode([b"phoenix-secure/admission/v1", forged.data]))]),
    ):
        place.write_bytes(content)
        with pytest.raises(ConfigError, match="no admission that this owner signed: delete it"):
            ceremony.owner.sign()
    place.unlink()
    # A true one under another name is none either.
    shutil.copy(ceremony.owner.path / "admitted" / "clinic.admission", place)
    with pytest.raises(ConfigError, match="no admission that this owner signed"):
        ceremony.owner.sign()


def test_nobody_takes_the_place_of_a_party_in_a_signed_roster_unasked(signed: Ceremony) -> None:
    again = site_request(
        SiteKeys.generate("clinic", suite=CLASSICAL), federation="net", suite=CLASSICAL
    )
    with pytest.raises(ConfigError, match=r"clinic is admitted with other keys: .* --replaces"):
        signed.owner.admit(again, heard=again.fingerprint.words)
    signed.admit("clinic")  # as it is in the roster
    (signed.owner.path / "admitted" / "hospital.admission").unlink()
    with pytest.raises(ConfigError, match="the keys of hospital is not in the folder admitted"):
        signed.owner.sign()
