"""Counter-signatures: somebody else, such as the data-protection officer, signs a signed report.

Each lies in an envelope of its own beside the report's, so that the report's bytes and their time
stamp stay what they are: ``report.countersigned-KEYID.dsse.json``, an in-toto statement about the
report's envelope by SHA-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.compliance.statement import PAYLOAD_TYPE
from phoenix_secure.evidence import EvidenceError
from phoenix_secure.evidence.canonical import NotCanonical, canonical, parse_canonical
from phoenix_secure.evidence.dsse import BadEnvelope, Envelope, key_id, sign_envelope
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.printed_text import without_controls
from protocol import Identity

__all__ = [
    "Countersignature",
    "countersign",
    "countersignature_path",
    "countersignatures_of",
    "open_countersignature",
]

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "urn:phoenix-secure:countersignature:v1"
_ENVELOPE = "report/report.dsse.json"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Countersignature:
    """What a signer says: as whom, and in which words."""

    role: str
    statement: str


def countersignature_path(report: Path, key: bytes) -> Path:
    """Where the signature of the public key ``key`` over ``report`` lies."""
    return report.with_suffix(f".countersigned-{key_id(key)[:16]}.dsse.json")


def countersignatures_of(report: Path) -> list[Path]:
    """The files of all signers of ``report``, whether they hold or not."""
    return sorted(report.parent.glob(f"{report.stem}.countersigned-*.dsse.json"))


def countersign(report: Path, *, identity: Identity, said: Countersignature) -> Path:
    """Sign the envelope of ``report`` as ``identity``; the same words give the same bytes.

    Raises:     StorageError.
    """
    envelope = report.with_suffix(".dsse.json")
    with storage_errors(envelope):
        content = envelope.read_bytes()
    said = Countersignature(
        role=without_controls(said.role), statement=without_controls(said.statement)
    )
    statement = _statement(said, envelope=content)
    signed = sign_envelope(canonical(statement), payload_type=PAYLOAD_TYPE, identity=identity)
    path = countersignature_path(report, identity.public_key)
    write_bytes(path, canonical(signed.to_dict()))
    return path


def open_countersignature(path: Path, *, key: bytes, envelope: bytes) -> Countersignature:
    """What the owner of ``key`` says in the file ``path`` about ``envelope``.

    Guarantee:  every byte of the file is covered by the signature, or has one spelling only.
    Raises:     EvidenceError saying what does not hold; OSError.
    """
    content = path.read_bytes()
    if len(content) > _MAX_BYTES:
        raise EvidenceError("it is too long to be a counter-signature")
    try:
        found = Envelope.from_dict(parse_canonical(content))
    except (BadEnvelope, NotCanonical) as error:
        raise EvidenceError(f"it was changed: {error}") from error
    if [hint for hint, _ in found.signatures] != [key_id(key)]:
        raise EvidenceError("it names another key, or more than one")
    try:
        statement = parse_canonical(found.open(key, payload_type=PAYLOAD_TYPE))
    except (BadEnvelope, NotCanonical) as error:
        raise EvidenceError(f"its signature does not hold: {error}") from error
    return _said(statement, envelope=envelope)


def _statement(said: Countersignature, *, envelope: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(envelope).hexdigest()
    return {
        "_type": _STATEMENT,
        "subject": [{"name": _ENVELOPE, "digest": {"sha256": digest}}],
        "predicateType": _PREDICATE,
        "predicate": {"role": said.role, "statement": said.statement},
    }


def _said(statement: Any, *, envelope: bytes) -> Countersignature:
    """What it says, if it is what ``countersign`` would write of this envelope."""
    try:
        predicate = statement["predicate"]
        said = Countersignature(role=predicate["role"], statement=predicate["statement"])
        of_this_kind = statement["predicateType"] == _PREDICATE
    except (LookupError, TypeError) as error:
        raise EvidenceError("it is not a counter-signature of this version") from error
    if not of_this_kind or not isinstance(said.role, str) or not isinstance(said.statement, str):
        raise EvidenceError("it is not a counter-signature of this version")
    if statement != _statement(said, envelope=envelope):
        raise EvidenceError("it is over another report's signature")
    return said
