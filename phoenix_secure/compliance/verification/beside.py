"""Checks of what others put beside a report's envelope: a time stamp, and counter-signatures."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from phoenix_secure.compliance.countersignature import (
    countersignature_path,
    countersignatures_of,
    open_countersignature,
)
from phoenix_secure.compliance.schema import Report
from phoenix_secure.compliance.timestamp import (
    BadStamp,
    can_check_stamps,
    check_stamp,
    stamp_path,
)
from phoenix_secure.compliance.verification.checks import Checks
from phoenix_secure.evidence import EvidenceError
from phoenix_secure.evidence.dsse import key_id

__all__ = ["check_countersignatures", "check_time_stamp"]

_STAMP = "time stamp"
# Clocks differ: a server's may be so much ahead of the service's.
_TOLERANCE = datetime.timedelta(minutes=5)


def check_time_stamp(
    report: Report, path: Path, *, certificates: bytes | None, checks: Checks
) -> None:
    """The stamp beside ``path``; a missing one counts where the reader named a service."""
    stamp = stamp_path(path)
    if not stamp.is_file():
        if certificates is not None:
            checks.not_made(_STAMP, f"there is none beside the report ({stamp.name})")
        return
    if not can_check_stamps():
        checks.not_made(
            _STAMP, "install the extra timestamp: pip install 'phoenix-secure[timestamp]'"
        )
        return
    with checks.catching(_STAMP):
        envelope = path.with_suffix(".dsse.json").read_bytes()
        try:
            found = check_stamp(stamp.read_bytes(), envelope, certificates=certificates)
        except BadStamp as error:
            checks.failed(_STAMP, str(error))
            return
        if certificates is None:
            checks.not_made(_STAMP, "name the service's certificate with --tsa-certificate")
            return
        if found.time + _TOLERANCE < datetime.datetime.fromisoformat(report.evidence_until):
            checks.failed(
                _STAMP,
                f"stamped {found.time.isoformat()}, before the newest entry of the ledger "
                f"({report.evidence_until}): one of the two clocks was wrong",
            )
            return
        checks.holds(_STAMP, f"signed before {found.time.isoformat()}, by {found.service}")


def check_countersignatures(path: Path, *, signers: Sequence[bytes], checks: Checks) -> None:
    """Every pinned signer signed; signatures of others are named and not counted."""
    pinned = {countersignature_path(path, key): key for key in signers}
    for place, key in pinned.items():
        name = f"counter-signature of {key_id(key)[:16]}"
        try:
            envelope = path.with_suffix(".dsse.json").read_bytes()
            said = open_countersignature(place, key=key, envelope=envelope)
        except FileNotFoundError:
            checks.failed(name, f"this signer did not sign: {place.name} is not there")
        except OSError as error:
            checks.failed(name, f"cannot be read ({error.strerror})")
        except EvidenceError as error:
            checks.failed(name, f"{place.name}: {error}")
        else:
            words = f": {said.statement}" if said.statement else ""
            checks.holds(name, f"{said.role or 'no role'}{words}")
    for place in countersignatures_of(path):
        if place not in pinned:
            checks.not_made(place.name, "whose it is: name the signer's public key with --signer")
