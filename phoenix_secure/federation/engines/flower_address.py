"""Where Flower's programs are found, and how they are started: all that needs no import of Flower.

Commands that read a server's folder or probe a server use nothing else of Flower, and do not wait
until it is loaded.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)
from packaging.specifiers import SpecifierSet

from phoenix_secure.errors import ConfigError

__all__ = [
    "LOOPBACKS",
    "SUPPORTED",
    "FlowerAddress",
    "check_flower_version",
    "node_key_bytes",
    "quiet_flower",
    "spare_loopback",
]

# The versions whose internals the contract tests were run against.
SUPPORTED = SpecifierSet(">=1.41,<1.42")
LOOPBACKS = ("127.0.0.1", "localhost", "::1")
_QUIET = (
    "FLWR_TELEMETRY_ENABLED=0",
    "FLWR_DISABLE_UPDATE_CHECK=1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowerAddress:
    """The address at which a SuperLink or SuperNode serves its APIs.

    root_certificates    PEM; None for plain HTTP, which is for the loopback of one machine
    secret               proves that a process may take tasks (Flower's SuperExec secret)
    """

    address: str
    root_certificates: bytes | None = None
    secret: bytes | None = field(default=None, repr=False)


def spare_loopback(environment: MutableMapping[str, str]) -> None:
    """Keep whatever proxy ``environment`` names away from this machine's own ports.

    Flower speaks HTTP with its own processes, and a proxy would be asked for them.
    """
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name for name in given.split(",") if name]
    spared = ",".join(dict.fromkeys([*names, *LOOPBACKS]))
    environment["no_proxy"] = environment["NO_PROXY"] = spared


def quiet_flower(environment: dict[str, str] | None = None) -> dict[str, str]:
    """``environment`` (default: ours) with telemetry, update checks and installations off, and no
    proxy before the loopback."""
    chosen = dict(os.environ if environment is None else environment)
    spare_loopback(chosen)
    return chosen | dict(setting.split("=", 1) for setting in _QUIET)


def check_flower_version(installed: str | None = None) -> None:
    """Refuse a Flower whose internals we have not tried; keep the others' chatter down.

    Raises:     ConfigError naming the versions and the fix.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    version = installed or importlib.metadata.version("flwr")
    if not SUPPORTED.contains(version, prereleases=True):
        raise ConfigError(
            f"flwr {version} is installed, but this version works with {SUPPORTED}: "
            "run `pip install -e . -c constraints.txt`"
        )


def node_key_bytes(public_key: bytes) -> bytes:
    """A node's OpenSSH public key in the form in which Flower lists it, which is PEM.

    Raises:     ConfigError for anything but an elliptic-curve key.
    """
    try:
        key = load_ssh_public_key(public_key)
    except ValueError as error:
        raise ConfigError("a node's public key is not in OpenSSH form: make a new one") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError("a node's public key must be on the curve P-384: make a new one")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
