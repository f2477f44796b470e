"""The key that signs an image's content credentials, with its certificates.

A run has one of its own, apart from the server's identity: that one signs ledgers and nothing else.
The ledger names the certificate, so that an image can be tied to its run. Whoever samples a model
without being its run signs with a key that is thrown away: then the credentials show a change, and
not who made the image.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from phoenix_secure.files import write_bytes
from phoenix_secure.secret_files import read_secret, write_secret

__all__ = ["MarkSigner", "certificate_file", "fingerprint_of", "key_file"]

_DAYS = 3650
_ORGANISATION = "Phoenix Secure"


def key_file(folder: Path) -> Path:
    """The private key in a party's folder."""
    return folder / "marks.key"


def certificate_file(folder: Path) -> Path:
    """The certificates in a party's folder: of the key, and of the authority that signed it."""
    return folder / "marks.pem"


@dataclass(frozen=True, slots=True)
class MarkSigner:
    """An Ed25519 key and its certificates, both in PEM."""

    key: bytes = field(repr=False)
    certificates: bytes

    @classmethod
    def new(cls, name: str) -> MarkSigner:
        """A new key for whoever ``name`` says.

        The authority's key is thrown away once it has signed the one certificate.
        """
        authority, own = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        root = _certificate(f"{name}, root", authority, issuer=f"{name}, root", by=authority)
        leaf = _certificate(name, own, issuer=f"{name}, root", by=authority)
        pem = serialization.Encoding.PEM
        return cls(
            key=own.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            certificates=leaf.public_bytes(pem) + root.public_bytes(pem),
        )

    @classmethod
    def of_run(cls, folder: Path, *, name: str) -> MarkSigner:
        """The signer of the run whose server's folder is ``folder``, made at first use.

        Raises:     ConfigError for a key that others can read; StorageError.
        """
        found = cls.kept(folder)
        if found is None:
            found = cls.new(name)
            folder.mkdir(parents=True, exist_ok=True)
            key_file(folder).unlink(missing_ok=True)  # of a process that was killed here
            write_secret(key_file(folder), found.key)
            write_bytes(certificate_file(folder), found.certificates)
        return found

    @classmethod
    def kept(cls, folder: Path) -> MarkSigner | None:
        """The signer in ``folder``; None where there is none.

        Raises:     ConfigError for a key that others can read.
        """
        if not (key_file(folder).exists() and certificate_file(folder).exists()):
            return None
        return cls(
            key=read_secret(key_file(folder)),
            certificates=certificate_file(folder).read_bytes(),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the certificates."""
        return fingerprint_of(self.certificates)


def fingerprint_of(certificates: bytes) -> str:
    """SHA-256 over certificates in PEM, as a ledger names them."""
    return hashlib.sha256(certificates).hexdigest()


def _certificate(
    name: str, key: Ed25519PrivateKey, *, issuer: str, by: Ed25519PrivateKey
) -> x509.Certificate:
    """One of the two; the profile is that of C2PA 2.2, section 14.5.1."""
    is_authority = key is by
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
        builder = builder.add_extension(purpose, critical=False)
        builder = builder.add_extension(above, critical=False)
    return builder.sign(by, None)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
        ]
    )
