"""TLS files of a whole federation at once, for tests of the network."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from phoenix_secure.federation.deployment.certificates import Authority


@dataclass(frozen=True, kw_only=True)
class CertifiedKey:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files; nobody has the key of the authority any more."""

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
    """A fresh authority, a server certificate for ``hosts``, and one for each client."""
    authority = Authority.make(federation, days=days, now=now)
    server = ec.generate_private_key(ec.SECP256R1())
    keys = {client: ec.generate_private_key(ec.SECP256R1()) for client in clients}
    return TlsFiles(
        ca_certificate=authority.pem,
        server_certificate=authority.certify_server(
            server.public_key(), federation=federation, hosts=hosts, days=days, now=now
        ),
        server_key=pem(server),
        clients={
            client: CertifiedKey(
                certificate=authority.certify_client(
                    key.public_key(), name=client, days=days, now=now
                ),
                key=pem(key),
            )
            for client, key in keys.items()
        },
    )


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
