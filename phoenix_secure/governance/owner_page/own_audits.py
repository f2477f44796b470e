"""The site's own audits: what it found when it attacked a finished model with its own images.

::

    audits/PLAN/audit.json   a confidential report, which never left the site
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from phoenix_secure.audit.report import AuditReport
from phoenix_secure.errors import CheckpointError

__all__ = ["OwnAudit", "own_audits"]

_MAX_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnAudit:
    """One report, and the plan whose model it is about."""

    plan: str
    report: AuditReport


def own_audits(folder: Path) -> list[OwnAudit]:
    """Every report below ``audits`` in a site's folder, sorted by plan.

    Raises:     CheckpointError for a file that is none.
    """
    found = []
    for path in sorted((folder / "audits").glob("*/audit.json")):
        try:
            with path.open("rb") as file:
                report = AuditReport.model_validate_json(file.read(_MAX_BYTES))
        except (OSError, ValidationError) as error:
            raise CheckpointError(
                f"{path} is no report of an audit: restore it from a copy, or delete it"
            ) from error
        found.append(OwnAudit(plan=path.parent.name, report=report))
    return found
