"""The federation's own certificate authority, TLS certificates of server and sites, nodes' keys."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CertifiedKey", "KeyPair", "TlsFiles", "make_node_key", "make_tls_files"]

# Clocks of sites may be a little behind.
_BACKDATED = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPair:
    """A SuperNode's P-384 key in OpenSSH form (what Flower reads)."""

    private: bytes = field(repr=False)
    public: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class CertifiedKey:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """PEM files; the key of the authority is thrown away once it has signed the certificates.

    An authority without a key can sign nothing else: no certificate for a second, false server
    will ever verify at the sites.
    """

    ca_certificate: bytes
    server_certificate: bytes
    server_key: bytes = field(repr=False)
    clients: Mapping[str, CertifiedKey] = field(default_factory=dict)


def make_tls_files(
    *,
    federation: str,
    hosts: Sequence[str],
    days: int,
    clients: Sequence[str] = (),
    now: dt.datetime | None = None,
) -> TlsFiles:
    """A fresh authority, a server certificate for ``hosts`` (names or addresses), one a client.

    Guarantee:  P-256 keys; the server's certificate holds for ``hosts`` and the loopback; it may
                serve TLS and nothing else, a client's may open connections and nothing else; the
                authority may sign end certificates only (path length 0).
    Raises:     ValueError for no hosts or a validity below one day.
    """
    if not hosts or days < 1:
        raise ValueError("expected at least one host and one day")
    start = (now or dt.datetime.now(dt.UTC)) - _BACKDATED
    end = start + dt.timedelta(days=days)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name(f"{federation} authority")

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
        )

    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )

    def certified(name: str, purpose: x509.ObjectIdentifier, names: Sequence[str]) -> CertifiedKey:
        own_key = ec.generate_private_key(ec.SECP256R1())
        unsigned = (
            builder(_name(name), own_key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id),
                critical=False,
            )
        )
        if names:
            alternatives = x509.SubjectAlternativeName(_alternatives(names))
            unsigned = unsigned.add_extension(alternatives, critical=False)
        certificate = unsigned.sign(ca_key, hashes.SHA256())
        return CertifiedKey(
            certificate=certificate.public_bytes(Encoding.PEM),
            key=own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    server = certified(f"{federation} server", ExtendedKeyUsageOID.SERVER_AUTH, hosts)
    return TlsFiles(
        ca_certificate=ca.public_bytes(Encoding.PEM),
        server_certificate=server.certificate,
        server_key=server.key,
        clients={
            client: certified(client, ExtendedKeyUsageOID.CLIENT_AUTH, ()) for client in clients
        },
    )


def make_node_key() -> KeyPair:
    """A fresh key with which one SuperNode proves itself to the SuperLink."""
    key = ec.generate_private_key(ec.SECP384R1())
    return KeyPair(
        private=key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        public=key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _alternatives(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1"]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
