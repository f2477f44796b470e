"""Signed reports, and checking one offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phoenix_secure.api.results import ReportResult
from phoenix_secure.compliance.build import DEFAULT_PROFILES
from phoenix_secure.compliance.output import attach_sweep, declare, write_report
from phoenix_secure.compliance.schema import Edition, Profile
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.errors import ConfigError

__all__ = ["report"]


def report(
    run: str | Path,
    *,
    governance: str | Path | None = None,
    sweep: str | Path | None = None,
    edition: str = "public",
    profiles: Sequence[str] = (),
    sections: Sequence[str] = (),
    key: str | Path | None = None,
    out: str | Path | None = None,
    pdf: bool | None = None,
) -> ReportResult:
    """Build and sign the report of a finished run; the arguments are the command's options.

    sections  names of extensions that write its annex, which nothing verifies
    key       the server's identity.key, where it lies outside the run's folder
    out       ``run/report`` where left out

    Raises:     ConfigError, EvidenceError, StorageError.
    """
    path = Path(run).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{run} is not a folder: name the folder of a finished run")
    identity = server_identity(path, key=None if key is None else Path(key).expanduser())
    if governance is not None:
        declare(path, Path(governance).expanduser())
    if sweep is not None:
        attach_sweep(path, Path(sweep).expanduser())
    return ReportResult(
        write_report(
            path,
            identity=identity,
            out=None if out is None else Path(out).expanduser(),
            edition=Edition(edition),
            profiles=[Profile(each) for each in profiles] or DEFAULT_PROFILES,
            sections=sections,
            pdf=pdf,
        )
    )
