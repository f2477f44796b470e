"""The signer of a report: the server whose key signed the run's ledger."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.secagg.keys import read_identity
from protocol import SERVER, Identity

__all__ = ["server_identity"]


def server_identity(run: Path, *, key: Path | None = None) -> Identity:
    """The server's signing key: in ``key``, or where a simulation keeps it.

    Raises:     ConfigError when there is none; CheckpointError when it is damaged or readable by
                others.
    """
    path = key or run / "server" / "identity.key"
    if not path.is_file():
        raise ConfigError(
            f"there is no key at {path} to sign with: name the server's identity.key with --key"
        )
    return read_identity(path, id=SERVER)
