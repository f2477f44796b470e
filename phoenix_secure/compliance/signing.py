"""Who signs a report: the server whose key signed the run's ledger."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.compliance.facts import AUDIT
from phoenix_secure.compliance.run_files import LEDGER
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence import Event, Ledger, read_ledger
from phoenix_secure.federation.secure_keys import read_identity
from phoenix_secure.files import sha256_of
from protocol import SERVER, Identity

__all__ = ["record_audit", "server_identity"]


def server_identity(run: Path, *, key: Path | None = None) -> Identity:
    """The server's signing key: in ``key``, or where a run in one process keeps it.

    Raises:     ConfigError when there is none; CheckpointError when it is damaged or readable by
                others.
    """
    path = key or run / "server" / "identity.key"
    if not path.is_file():
        raise ConfigError(
            f"there is no key at {path} to sign with: name the server's identity.key with --key"
        )
    return read_identity(path, id=SERVER)


def record_audit(run: Path, *, identity: Identity) -> None:
    """Add the audit's result, by hash, to the run's ledger; the same result is not added twice.

    Sites have signed the entries before it, and sign this one when they are next shown the ledger.
    """
    audit = run / AUDIT
    if not audit.is_file():
        return
    digest = sha256_of(audit)
    known = read_ledger(run / LEDGER, server_key=identity.public_key).of(Event.AUDITED)
    if not known or known[-1].facts.get("sha256") != digest:
        Ledger(run / LEDGER, identity=identity).append(Event.AUDITED, file=AUDIT, sha256=digest)
