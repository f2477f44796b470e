"""Signed reports, and checking one offline."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.api.results import ReportResult
from phoenix_secure.compliance.build import DEFAULT_PROFILES
from phoenix_secure.compliance.countersignature import Countersignature, countersign
from phoenix_secure.compliance.output import (
    attach_sweep,
    attach_vulnerabilities,
    declare,
    write_report,
)
from phoenix_secure.compliance.schema import Edition, Profile
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.timestamp import STAMP, check_address, stamp_report
from phoenix_secure.compliance.verification.verify import verify_report
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence import EvidenceError
from phoenix_secure.federation.secagg.keys import read_identity
from phoenix_secure.secret_files import write_secret
from protocol import Identity

__all__ = ["SignedReport", "report", "sign_report"]

_SIGNER = "countersigner"


def report(
    run: str | Path,
    *,
    governance: str | Path | None = None,
    sweep: str | Path | None = None,
    vulnerabilities: str | Path | None = None,
    edition: str = "public",
    profiles: Sequence[str] = (),
    sections: Sequence[str] = (),
    key: str | Path | None = None,
    out: str | Path | None = None,
    pdf: bool | None = None,
    timestamp: str | None = None,
) -> ReportResult:
    """Build and sign the report of a finished run; the arguments are the command's options.

    vulnerabilities an export of osv.dev, a JSON or zip file; nothing is asked
    sections  names of extensions that write its annex, which nothing verifies
    key       the server's identity.key, where it lies outside the run's folder
    out       ``run/report`` where left out
    timestamp address of an RFC 3161 service that stamps the signature; none is asked otherwise

    Raises:     ConfigError, EvidenceError, StorageError; BadStamp when the service gives no stamp:
                the report is then written without one.
    """
    path = Path(run).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{run} is not a folder: name the folder of a finished run")
    identity = server_identity(path, key=None if key is None else Path(key).expanduser())
    if governance is not None:
        declare(path, Path(governance).expanduser())
    if sweep is not None:
        attach_sweep(path, Path(sweep).expanduser())
    if vulnerabilities is not None:
        attach_vulnerabilities(path, Path(vulnerabilities).expanduser())
    if timestamp is not None:
        check_address(timestamp)
    written = write_report(
        path,
        identity=identity,
        out=None if out is None else Path(out).expanduser(),
        edition=Edition(edition),
        profiles=[Profile(each) for each in profiles] or DEFAULT_PROFILES,
        sections=sections,
        pdf=pdf,
    )
    if timestamp is not None:
        stamp_report(written.folder / "report.json", url=timestamp)
        written = dataclasses.replace(written, files=(*written.files, STAMP))
    return ReportResult(written)


@dataclass(frozen=True, slots=True)
class SignedReport:
    """The file that a counter-signature lies in, and the public key that readers pin."""

    path: Path
    public_key: bytes


def sign_report(
    report: str | Path,
    *,
    key: str | Path,
    role: str = "",
    statement: str = "",
    new_key: bool = False,
) -> SignedReport:
    """Counter-sign the report.json at ``report`` with the signing key in the file ``key``.

    role, statement   as whom, and in which words; both are signed and shown to who verifies
    new_key           make the key first; one that is there is never overwritten

    Guarantee:  only what holds is signed: signature, files and derived values are checked before.
                Readers must get the public key from the signer, not with the report.
    Raises:     EvidenceError naming what does not hold; ConfigError where there is no key;
                CheckpointError for a key that is damaged or that others can read; StorageError.
    """
    path, key = Path(report).expanduser(), Path(key).expanduser()
    failed = verify_report(path).failed
    if failed:
        raise EvidenceError(f"not signed: {failed[0].name}: {failed[0].detail}")
    if new_key:
        write_secret(key, Identity.generate(_SIGNER).export_seed())
    elif not key.is_file():
        raise ConfigError(f"there is no key at {key} to sign with: add --new-key to make one")
    identity = read_identity(key, id=_SIGNER)
    said = Countersignature(role=role, statement=statement)
    return SignedReport(countersign(path, identity=identity, said=said), identity.public_key)
