"""Join requests: what they hold, that every byte of them is signed, and what is refused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ceremony import files_of
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.join_request import (
    MAX_REQUEST_SIZE,
    parse_request,
    read_request,
    server_request,
    site_request,
)
from phoenix_secure.federation.deployment.joining import prepare_server, prepare_site
from phoenix_secure.federation.deployment.party_keys import ServerKeys, SiteKeys
from phoenix_secure.federation.deployment.signing_requests import (
    make_signing_request,
    open_signing_request,
)
from protocol import Identity, RemoteProtocolError
from protocol.encoding import Reader, encode
from protocol.suite import Suite

KEYS = SiteKeys.generate("clinic", suite=Suite.CLASSICAL)
REQUEST = site_request(KEYS, federation="net", suite=Suite.CLASSICAL)
EARLIER = Identity.generate("clinic")
RENEWAL = site_request(KEYS, federation="net", suite=Suite.CLASSICAL, earlier=EARLIER)
REFUSED = (RemoteProtocolError, ValueError)


def fields_of(data: bytes) -> list[bytes]:
    """The fields of an encoding, read the slow way."""
    found = []
    while data:
        size = int.from_bytes(data[:4])
        found.append(data[4 : 4 + size])
        assert len(found[-1]) == size
        data = data[4 + size :]
    return found


@pytest.mark.parametrize("suite", Suite)
def test_request_holds_the_public_halves_and_nothing_else(suite: Suite) -> None:
    keys = SiteKeys.generate("clinic", suite=suite)
    made = site_request(keys, federation="net", suite=suite)
    assert (made.federation, made.party, made.suite) == ("net", "clinic", suite)
    assert made.identity_key == keys.identity.public_key
    assert made.tls_key == keys.door.public_key()
    assert not made.is_server
    assert parse_request(made.data) == made
    body = fields_of(fields_of(made.data)[0])
    assert [field.decode() for field in body[:5]] == [
        "phoenix-secure/join-request/v1",
        "net",
        "site",
        "clinic",
        suite.value,
    ]
    assert len(made.data) < MAX_REQUEST_SIZE / 2


def test_servers_request_names_its_host_and_has_no_node() -> None:
    keys = ServerKeys.generate(suite=Suite.CLASSICAL)
    made = server_request(
        keys, federation="net", suite=Suite.CLASSICAL, host="fl.example.org", port=9443
    )
    assert (made.party, made.host, made.port, made.node_key) == (
        "server",
        "fl.example.org",
        9443,
        b"",
    )
    names = x509.load_der_x509_csr(made.tls_request).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "fl.example.org" in names.value.get_values_for_type(x509.DNSName)


@given(st.integers(0, 8 * len(REQUEST.data) - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(REQUEST.data)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(REFUSED):
        parse_request(bytes(changed))


@given(st.integers(0, len(REQUEST.data) - 1))
def test_any_truncation_is_refused(size: int) -> None:
    with pytest.raises(REFUSED):
        parse_request(REQUEST.data[:size])


@given(st.integers(0, 8 * len(RENEWAL.data) - 1))
def test_any_flipped_bit_of_a_renewal_is_refused(bit: int) -> None:
    changed = bytearray(RENEWAL.data)
    changed[bit // 8] ^= 1 << bit % 8
    for data in (bytes(changed), RENEWAL.data[: bit // 8]):
        with pytest.raises(REFUSED):
            parse_request(data)


@pytest.mark.parametrize("suite", Suite)
def test_renewal_names_the_earlier_key_which_signed_it(suite: Suite) -> None:
    keys = SiteKeys.generate("clinic", suite=suite)
    earlier = Identity.generate("clinic", suite=suite)
    made = site_request(keys, federation="net", suite=suite, earlier=earlier)
    assert made.earlier_key == earlier.public_key
    assert parse_request(made.data) == made
    assert len(made.data) < MAX_REQUEST_SIZE
    assert REQUEST.earlier_key == b""
    with pytest.raises(RemoteProtocolError, match="earlier key"):
        site_request(keys, federation="net", suite=suite, earlier=keys.identity)


@given(st.binary(max_size=600))
def test_strangers_bytes_are_refused(data: bytes) -> None:
    for candidate in (data, REQUEST.data + data if data else b"", encode([data, data, data])):
        with pytest.raises(REFUSED):
            parse_request(candidate)


def test_fingerprint_is_of_what_was_signed_and_not_of_the_signatures() -> None:
    """ECDSA has two signatures for each: who changes one must not change the words."""
    body, signature, proof = fields_of(REQUEST.data)
    r, s = decode_dss_signature(proof)
    order = int(
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        16,
    )
    other = parse_request(encode([body, signature, encode_dss_signature(r, order - s)]))
    assert other.data != REQUEST.data
    assert other.fingerprint == REQUEST.fingerprint
    again = site_request(KEYS, federation="net", suite=Suite.CLASSICAL)
    assert again.fingerprint != REQUEST.fingerprint  # its signing request is another


def changed_field(number: int, value: bytes) -> bytes:
    """A request whose body has another field ``number``, signed again by its own keys."""
    body, _, _ = fields_of(REQUEST.data)
    fields = fields_of(body)
    fields[number] = value
    body = encode(fields)
    return signed(body)


def signed(body: bytes) -> bytes:
    from phoenix_secure.federation.deployment.join_request import _node_message

    proof = KEYS.node.sign(_node_message(body), ec.ECDSA(hashes.SHA384()))
    return encode([body, KEYS.identity.sign(body), proof])


def test_the_same_fields_signed_again_are_accepted() -> None:
    """So that the refusals below are of the field and not of the signature."""
    body, _, _ = fields_of(REQUEST.data)
    assert parse_request(signed(body)).fingerprint == REQUEST.fingerprint


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (0, b"phoenix-secure/join-request/v2"),
        (1, b"a/b"),
        (2, b"server"),
        (2, b"admin"),
        (3, b"server"),
        (3, b"../clinic"),
        (4, b"none"),
        (4, b"hybrid_pq"),
        (6, b""),
        (6, bytes(2049)),
        (7, b""),
        (7, b"\x04" + bytes(96)),
        # The same point in the form that has two bytes for one: a key that is another to compare.
        pytest.param(
            7, bytes([6 + REQUEST.node_key[-1] % 2]) + REQUEST.node_key[1:], id="another form"
        ),
        (8, b"fl.example.org"),
        (9, (9443).to_bytes(8)),
    ],
)
def test_what_a_site_cannot_ask_is_refused_though_it_is_signed(number: int, value: bytes) -> None:
    with pytest.raises(REFUSED):
        parse_request(changed_field(number, value))


@pytest.mark.parametrize("names", [("other", "net", None), ("clinic", "other", None)])
def test_signing_request_of_another_party_or_federation_is_refused(names) -> None:
    party, federation, _ = names
    foreign = make_signing_request(KEYS.door, party=party, federation=federation)
    with pytest.raises(ValueError, match="another party, federation or host"):
        parse_request(changed_field(6, foreign))


def csr(key, *, algorithm=None, extensions=(), attributes=()) -> bytes:
    known = x509.load_der_x509_csr(REQUEST.tls_request)
    builder = x509.CertificateSigningRequestBuilder().subject_name(known.subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    for oid, value in attributes:
        builder = builder.add_attribute(oid, value)
    return builder.sign(key, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "data",
    [
        csr(ec.generate_private_key(ec.SECP384R1())),
        csr(KEYS.door, algorithm=hashes.SHA384()),
        csr(KEYS.door, extensions=[x509.BasicConstraints(ca=True, path_length=None)]),
        csr(KEYS.door, extensions=[x509.SubjectAlternativeName([x509.DNSName("x.example")])]),
        csr(KEYS.door, attributes=[(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")]),
        b"",
        b"\x30\x03\x02\x01\x00",
    ],
    ids=["curve", "hash", "authority", "host", "attribute", "empty", "no-request"],
)
def test_signing_requests_that_ask_for_more_are_refused(data: bytes) -> None:
    open_signing_request(csr(KEYS.door), party="clinic", federation="net")
    with pytest.raises(ValueError, match=r"signing request|P-256"):
        open_signing_request(data, party="clinic", federation="net")


def test_signing_request_signed_by_another_key_is_refused() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    own = x509.load_der_x509_csr(csr(KEYS.door))
    # The signature is the last field; one of the same length takes its place.
    theirs = next(
        found.signature
        for found in iter(lambda: x509.load_der_x509_csr(csr(stranger)), None)
        if len(found.signature) == len(own.signature)
    )
    forged = own.public_bytes(Encoding.DER).replace(own.signature, theirs)
    with pytest.raises(ValueError, match="not signed by its own key"):
        open_signing_request(forged, party="clinic", federation="net")


@pytest.mark.parametrize("suite", Suite)
def test_files_hold_secrets_once_and_the_request_none(tmp_path: Path, suite: Suite) -> None:
    prepare_site(tmp_path / "clinic", name="clinic", federation="net", suite=suite.value)
    prepare_server(
        tmp_path / "server", federation="net", host="10.0.0.1", port=9443, suite=suite.value
    )
    for folder in (tmp_path / "clinic", tmp_path / "server"):
        assert folder.stat().st_mode & 0o777 == 0o700
        secrets = [path for path in folder.iterdir() if path.suffix in (".key", ".secret")]
        assert len(secrets) == (5 if folder.name == "clinic" else 3)
        assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
        everything = files_of(tmp_path)
        for path in secrets:
            content = path.read_bytes().strip()
            holders = [name for name, text in everything.items() if content in text]
            assert holders == [str(path.relative_to(tmp_path))]


def test_two_sites_never_share_a_key() -> None:
    made = [SiteKeys.generate("clinic", suite=Suite.CLASSICAL) for _ in range(3)]
    for one, other in itertools.combinations(made, 2):
        assert one.identity.public_key != other.identity.public_key
        assert one.approver.public_key != other.approver.public_key
        assert one.node.public_key() != other.node.public_key()
        assert one.door.public_key() != other.door.public_key()
    assert "private" not in repr(made[0]).lower()


def test_files_that_are_none_are_refused_with_their_name(tmp_path: Path) -> None:
    good = tmp_path / "clinic.request"
    good.write_bytes(REQUEST.data)
    assert read_request(good) == REQUEST
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(MAX_REQUEST_SIZE + 1))
    (tmp_path / "short").write_bytes(REQUEST.data[:-1])
    for name, said in (
        ("link", "is a link"),
        ("folder", "no plain file"),
        ("pipe", "no plain file"),
        ("large", "is larger than 16384 bytes"),
        ("short", r"truncated\): ask its sender"),
        ("none", "No such file"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            read_request(tmp_path / name)
        assert name in str(caught.value)


def test_reader_leaves_nothing_unread() -> None:
    with pytest.raises(RemoteProtocolError, match="bytes after the last field"):
        parse_request(REQUEST.data + encode([b""]))
    outer = Reader(REQUEST.data, peer="test")
    body = bytes(outer.view("body", max_size=MAX_REQUEST_SIZE))
    with pytest.raises(RemoteProtocolError, match="bytes after the last field"):
        parse_request(signed(body + encode([b""])))
