"""The federation's own certificate authority, and what makes one of its certificates good."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phoenix_secure.errors import ConfigError

__all__ = ["Authority", "check_certificate", "server_alternatives", "server_name"]

# Clocks of sites may be a little behind.
_BACKDATED = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Authority:
    """The authority's certificate, and the key that signs one for each party.

    Guarantee:  a server's certificate holds for its host and the loopback; it may serve TLS and
                nothing else, a client's may open connections and nothing else; the authority may
                sign end certificates only (path length 0), and none that outlives it.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(cls, federation: str, *, days: int, now: dt.datetime | None = None) -> Authority:
        """A fresh authority with a P-256 key.

        Raises:     ValueError for a validity below one day.
        """
        if days < 1:
            raise ValueError("expected at least one day")
        start = _start(now)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"{federation} authority")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(certificate=certificate, key=key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Authority:
        """An authority from two PEM files.

        Raises:     ConfigError when they cannot be read or do not belong together.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate)
            private = load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as error:
            # The reason may quote what it read: not repeated.
            raise ConfigError(
                "ca.crt or ca.key cannot be read: restore both from a copy"
            ) from error
        if (
            not isinstance(private, ec.EllipticCurvePrivateKey)
            or found.public_key() != private.public_key()
        ):
            raise ConfigError("ca.key is not the key of ca.crt: restore both from a copy")
        return cls(certificate=found, key=private)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def export_key(self) -> bytes:
        """The secret key as PEM, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def certify_server(
        self,
        public: ec.EllipticCurvePublicKey,
        *,
        federation: str,
        hosts: Sequence[str],
        days: int,
        now: dt.datetime | None = None,
    ) -> bytes:
        """A server's certificate for ``hosts`` (names or addresses) and the loopback, PEM."""
        name = server_name(federation)
        purpose, alternatives = ExtendedKeyUsageOID.SERVER_AUTH, server_alternatives(hosts)
        return self._certify(public, name, purpose, alternatives, days=days, now=now)

    def certify_client(
        self,
        public: ec.EllipticCurvePublicKey,
        *,
        name: str,
        days: int,
        now: dt.datetime | None = None,
    ) -> bytes:
        """The certificate with which the site ``name`` opens the server's door, PEM."""
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._certify(public, name, purpose, None, days=days, now=now)

    def _certify(
        self,
        public: ec.EllipticCurvePublicKey,
        name: str,
        purpose: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
        *,
        days: int,
        now: dt.datetime | None,
    ) -> bytes:
        if days < 1:
            raise ValueError("expected at least one day")
        start = _start(now)
        own_id = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        unsigned = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(start, self.certificate.not_valid_before_utc))
            .not_valid_after(
                min(start + dt.timedelta(days=days), self.certificate.not_valid_after_utc)
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id.value),
                critical=False,
            )
        )
        if alternatives is not None:
            unsigned = unsigned.add_extension(alternatives, critical=False)
        return unsigned.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def check_certificate(
    pem: bytes,
    *,
    authority: bytes,
    public: ec.EllipticCurvePublicKey,
    name: str,
    alternatives: x509.SubjectAlternativeName | None = None,
    now: dt.datetime | None = None,
) -> None:
    """Refuse a certificate that is not what ``Authority`` gives the holder of ``public``.

    alternatives   hosts of a server; None for a client

    Raises:     ConfigError with the one thing that is wrong.
    """
    try:
        ca, own = x509.load_pem_x509_certificate(authority), x509.load_pem_x509_certificate(pem)
        limits = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
        own_limits = own.extensions.get_extension_for_class(x509.BasicConstraints).value
        purposes = list(own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        ca.verify_directly_issued_by(ca)
        own.verify_directly_issued_by(ca)
        hosts = [
            extension.value
            for extension in own.extensions
            if isinstance(extension.value, x509.SubjectAlternativeName)
        ]
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature) as error:
        raise ConfigError(
            "the certificate is not signed by the federation's authority: ask the owner for "
            "another welcome"
        ) from error
    is_server = alternatives is not None
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
    if not limits.ca or limits.path_length != 0 or own_limits.ca or purposes != [purpose]:
        raise ConfigError(
            "the certificate is for another purpose: ask the owner for another welcome"
        )
    if own.public_key() != public:
        raise ConfigError(
            "the certificate is for another key than the one in this folder: ask the owner for "
            "the welcome to the request that lies here"
        )
    if own.subject != _name(name) or hosts != ([alternatives] if is_server else []):
        raise ConfigError(
            "the certificate is for another name: ask the owner for this party's welcome"
        )
    moment = now or dt.datetime.now(dt.UTC)
    for each in (ca, own):
        if not each.not_valid_before_utc <= moment <= each.not_valid_after_utc:
            raise ConfigError(
                f"the certificate holds from {each.not_valid_before_utc:%Y-%m-%d %H:%M} to "
                f"{each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, not now: set this machine's "
                "clock, or ask the owner for another welcome (`deploy sign` again)"
            )


def server_name(federation: str) -> str:
    """The common name of a federation's server."""
    return f"{federation} server"


def server_alternatives(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """The names and addresses under which a server is reached, the loopback among them."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1"]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(names)


def _start(now: dt.datetime | None) -> dt.datetime:
    # A certificate counts whole seconds.
    return (now or dt.datetime.now(dt.UTC)).replace(microsecond=0) - _BACKDATED


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


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
