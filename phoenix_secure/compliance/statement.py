"""The signed statement: in-toto, naming every file by its SHA-256, in a DSSE envelope.

Source: in-toto Attestation Framework, Statement v1; DSSE v1.0.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from phoenix_secure.compliance.facts import AUDIT
from phoenix_secure.compliance.schema import Report
from phoenix_secure.evidence import EvidenceError
from phoenix_secure.evidence.canonical import NotCanonical, canonical, parse_canonical
from phoenix_secure.evidence.dsse import BadEnvelope, Envelope, key_id, sign_envelope
from protocol import Identity

__all__ = ["PAYLOAD_TYPE", "PREDICATE_TYPE", "open_statement", "sign_report", "statement_of"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:phoenix-secure:report:v1"
_STATEMENT = "https://in-toto.io/Statement/v1"


def statement_of(report: Report, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The statement about ``files`` of the report's folder, the model, the audit and the ledger.

    Names are ``report/NAME`` beside the report, ``run/PATH`` in the run's folder, and
    ``ledger/ID`` for a tree head, whose digest is its root.
    """
    ledger = report.value("H1.ledger")
    digests = {f"report/{name}": _sha256(content) for name, content in files.items()}
    digests |= {f"run/{path}": digest for path, digest in report.value("A2.files").items()}
    for evidence in report.field("E4.verdict").evidence:
        if evidence.path == AUDIT:
            digests[f"run/{AUDIT}"] = evidence.sha256
    digests[f"ledger/{ledger['id']}"] = ledger["root"]
    return {
        "_type": _STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "report": report.id,
            "edition": report.edition.value,
            "profiles": [each.value for each in report.profiles],
            "ledger": {name: ledger[name] for name in ("id", "entries", "root")},
            "failures": list(report.headline.failures),
        },
    }


def sign_report(report: Report, files: Mapping[str, bytes], *, identity: Identity) -> bytes:
    """The envelope file, canonical JSON: another spelling of it is not accepted."""
    payload = canonical(statement_of(report, files))
    return canonical(sign_envelope(payload, payload_type=PAYLOAD_TYPE, identity=identity).to_dict())


def open_statement(content: bytes, *, key: bytes) -> dict[str, Any]:
    """The statement in an envelope file, if ``key`` signed it.

    Guarantee:  every byte of the file is covered: by the signature, or because there is only one
                spelling of it and one key id.
    Raises:     EvidenceError saying what does not hold.
    """
    try:
        envelope = Envelope.from_dict(parse_canonical(content))
    except (BadEnvelope, NotCanonical) as error:
        raise EvidenceError(f"the envelope was changed: {error}") from error
    if [hint for hint, _ in envelope.signatures] != [key_id(key)]:
        raise EvidenceError("the envelope names another key, or more than one")
    try:
        statement = parse_canonical(envelope.open(key, payload_type=PAYLOAD_TYPE))
    except (BadEnvelope, NotCanonical) as error:
        raise EvidenceError(f"the signature does not hold: {error}") from error
    if (
        not isinstance(statement, dict)
        or statement.get("_type") != _STATEMENT
        or statement.get("predicateType") != PREDICATE_TYPE
        or not isinstance(statement.get("subject"), list)
    ):
        raise EvidenceError("the signed statement is not about a report of this version")
    return statement


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
