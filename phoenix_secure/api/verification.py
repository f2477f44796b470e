"""Checks a report offline; needs neither torch nor Flower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phoenix_secure.compliance.timestamp import read_certificates
from phoenix_secure.compliance.verification.verify import (
    Verification,
    load_roster,
    parse_key,
    verify_report,
)
from phoenix_secure.errors import ConfigError

__all__ = ["verify"]


def verify(
    report: str | Path,
    *,
    evidence: str | Path | None = None,
    roster: str | Path | None = None,
    owner_key: str | None = None,
    server_key: str | None = None,
    tsa_certificate: str | Path | None = None,
    signers: Sequence[str] = (),
) -> Verification:
    """Check ``report`` (report.json); its envelope lies beside it.

    evidence               the run's folder
    roster, owner_key      who takes part, and the key of the owner who signed it
    server_key             the server's, where no roster is pinned
    tsa_certificate        PEM file of the time-stamping service that the reader trusts
    signers                public keys of those who must have counter-signed
    keys                   64 hexadecimal digits, or a file that holds a public key

    Guarantee:  ``exit_code`` 0 all holds, 5 something failed, 6 the report says FAIL, 7 not
                everything could be checked.
    Raises:     ConfigError for keys and files that cannot be read.
    """
    if roster is None and owner_key is not None and evidence is not None:
        roster = Path(evidence).expanduser() / "roster.bin"
    if roster is None and owner_key is not None:
        raise ConfigError("--owner-key needs the roster that it signed: add --roster roster.bin")
    pinned = None
    if roster is not None:
        pinned = load_roster(
            Path(roster).expanduser(),
            owner_key=None if owner_key is None else _key(owner_key, "--owner-key"),
        )
    return verify_report(
        Path(report).expanduser(),
        evidence=None if evidence is None else Path(evidence).expanduser(),
        roster=pinned,
        server_key=None if server_key is None else _key(server_key, "--server-key"),
        tsa_certificates=None if tsa_certificate is None else _certificates(tsa_certificate),
        signers=[_key(each, "--signer") for each in signers],
    )


def _certificates(path: str | Path) -> bytes:
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"--tsa-certificate: cannot read {path} ({error.strerror})") from error
    read_certificates(content)
    return content


def _key(text: str, option: str) -> bytes:
    """32 bytes, from hexadecimal digits or a file that holds them raw or so written."""
    content: bytes = text.encode()
    path = Path(text).expanduser()
    try:
        if path.is_file():
            content = path.read_bytes()[:200]
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {path} ({error.strerror})") from error
    try:
        return parse_key(content)
    except ValueError as error:
        raise ConfigError(
            f"{option}: expected 64 hexadecimal digits or a file with a public key"
        ) from error
