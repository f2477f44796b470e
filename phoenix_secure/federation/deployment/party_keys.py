"""The secret keys of one party, made where they live; and the folder that they live in."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import write_bytes
from phoenix_secure.secret_files import make_private_folder, read_secret, write_secret
from protocol import SERVER, Identity
from protocol.identity import SEED_SIZE
from protocol.suite import Suite

__all__ = [
    "NODE_SIZE",
    "ServerKeys",
    "SiteKeys",
    "new_node_key",
    "node_line",
    "node_pem",
    "node_point",
    "parse_node",
    "read_identity",
    "read_node_key",
    "read_tls_key",
]

NODE_SIZE = 97  # an uncompressed point of P-384
_TASK_SECRET_SIZE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteKeys:
    """The keys of a site.

    identity   signs the site's messages
    approver   signs approvals of plans; its public half is for the site alone
    node       proves the SuperNode to the SuperLink
    door       opens the server's door (TLS)
    """

    identity: Identity
    approver: Identity
    node: ec.EllipticCurvePrivateKey = field(repr=False)
    door: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls, site: str, *, suite: Suite) -> SiteKeys:
        """Fresh keys."""
        return cls(
            identity=Identity.generate(site, suite=suite),
            approver=Identity.generate("approver"),
            node=new_node_key(),
            door=_new_tls_key(),
        )

    def write(self, place: Path) -> None:
        """Write the site's secrets into ``place``, each with mode 0600 from the first moment on."""
        self.write_renewable(place)
        write_secret(place / "task.secret", os.urandom(_TASK_SECRET_SIZE))
        write_secret(place / "approver.key", self.approver.export_seed())
        write_bytes(place / "approver.pub", self.approver.public_key)

    def write_renewable(self, place: Path) -> None:
        """Those that other parties know: all but the approval key and what this machine keeps."""
        make_private_folder(place)
        write_secret(place / "door.key", _tls_pem(self.door))
        write_secret(place / "node.key", node_pem(self.node))
        write_secret(place / "identity.key", self.identity.export_seed())


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerKeys:
    """The keys of a server: its identity signs messages, ``tls`` serves the open port."""

    identity: Identity
    tls: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls, *, suite: Suite) -> ServerKeys:
        """Fresh keys."""
        return cls(identity=Identity.generate(SERVER, suite=suite), tls=_new_tls_key())

    def write(self, place: Path) -> None:
        """Write the server's secrets into ``place``, each with mode 0600 from the first moment."""
        make_private_folder(place)
        write_secret(place / "server.key", _tls_pem(self.tls))
        write_secret(place / "task.secret", os.urandom(_TASK_SECRET_SIZE))
        write_secret(place / "identity.key", self.identity.export_seed())


def new_node_key() -> ec.EllipticCurvePrivateKey:
    """A fresh key with which one SuperNode proves itself to the SuperLink: P-384, as Flower's."""
    return ec.generate_private_key(ec.SECP384R1())


def node_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A node's private key in OpenSSH form, which Flower reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def node_line(key: ec.EllipticCurvePublicKey) -> bytes:
    """A node's public key as the server keeps it: one line of OpenSSH."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def node_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """A node's public key in its one short form: ``NODE_SIZE`` bytes."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def parse_node(point: bytes) -> ec.EllipticCurvePublicKey:
    """A node's public key from its short form.

    Raises:     ValueError for anything else, also a point that is not on the curve.
    """
    if len(point) != NODE_SIZE:
        raise ValueError("expected an uncompressed point of P-384")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)


def read_identity(place: Path, party: str, *, suite: Suite) -> Identity:
    """The identity in the folder of ``party``.

    Raises:     ConfigError for a missing file or one that others can read.
    """
    return Identity(party, seed=read_secret(place / "identity.key", size=SEED_SIZE), suite=suite)


def read_node_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The public half of the node's key in the file ``path``.

    Raises:     ConfigError.
    """
    return _public_half(path, load_ssh_private_key)


def read_tls_key(path: Path) -> ec.EllipticCurvePublicKey:
    """The public half of the TLS key in the file ``path``.

    Raises:     ConfigError.
    """
    return _public_half(path, load_pem_private_key)


def _public_half(
    path: Path, load: Callable[[bytes, bytes | None], object]
) -> ec.EllipticCurvePublicKey:
    content = read_secret(path)
    try:
        key = load(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        # Without the library's reason, which may quote the file.
        raise ConfigError(f"key file {path} holds no key of its kind: restore it from a copy")
    return key.public_key()


def _tls_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _new_tls_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
