"""The signature under an implementation that is not ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from phoenix_secure.compliance.statement import PAYLOAD_TYPE, PREDICATE_TYPE


def read(run: Path) -> tuple[Envelope, SSlibKey]:
    envelope = json.loads((run / "report" / "report.dsse.json").read_text())
    report = json.loads((run / "report" / "report.json").read_text())
    field = next(each for each in report["fields"] if each["id"] == "D3.keys")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(field["value"]["server key"]))
    key = SSlibKey.from_crypto(public, keyid=envelope["signatures"][0]["keyid"])
    return Envelope.from_dict(envelope), key


def test_securesystemslib_accepts_the_envelope(reported: Path) -> None:
    envelope, key = read(reported)
    assert key.keyid in envelope.verify([key], 1)
    assert envelope.payload_type == PAYLOAD_TYPE


def test_securesystemslib_refuses_a_changed_payload(reported: Path) -> None:
    envelope, key = read(reported)
    envelope.payload = envelope.payload.replace(b'"public"', b'"secret"')
    with pytest.raises(VerificationError):
        envelope.verify([key], 1)


def test_the_statement_names_every_file_by_its_digest(reported: Path) -> None:
    statement = json.loads(read(reported)[0].payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == PREDICATE_TYPE
    digests = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    beside = {path.name for path in (reported / "report").iterdir()} - {"report.dsse.json"}
    for name in beside:
        content = (reported / "report" / name).read_bytes()
        assert digests.pop(f"report/{name}") == hashlib.sha256(content).hexdigest()
    audit = reported / "audit" / "audit.json"
    assert digests["run/audit/audit.json"] == hashlib.sha256(audit.read_bytes()).hexdigest()
    assert any(name.endswith(".safetensors") for name in digests)
    assert sum(name.startswith("ledger/") for name in digests) == 1
