"""A consent holds only as the owner signed it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.evidence.dsse import sign_envelope
from phoenix_secure.governance.consent import BadConsent, Consent, consent_file, in_days
from protocol import Identity

OWNER = Identity.generate("approver")
TYPE = "application/vnd.phoenix-secure.consent+json"
FIELDS = {
    "site": "s1",
    "federation": "test",
    "plan": "ab" * 32,
    "submission": "cd" * 32,
    "code": "ef" * 32,
    "release": "consortium",
    "coordinator": "server@test.invalid",
    "job": "plan-abab",
    "signed": 1000,
    "expires": 2000,
}
SIGNED = Consent(**FIELDS).sign(OWNER)


def test_opening_gives_what_was_signed() -> None:
    assert Consent.open(SIGNED, owner_key=OWNER.public_key) == Consent(**FIELDS)


def test_consent_of_another_key_is_refused() -> None:
    with pytest.raises(BadConsent, match="not signed by the owner"):
        Consent.open(SIGNED, owner_key=Identity.generate("approver").public_key)


@given(st.data())
def test_no_changed_byte_is_read_as_another_consent(data) -> None:
    content = bytearray(SIGNED)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = Consent.open(bytes(content), owner_key=OWNER.public_key)
    except BadConsent:
        return
    assert again == Consent(**FIELDS)


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_payload_with_one_other_field_is_refused(field: str) -> None:
    envelope = json.loads(SIGNED)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload[field] = 1999 if field in ("signed", "expires") else "00" * 32
    envelope["payload"] = base64.b64encode(canonical(payload)).decode()
    with pytest.raises(BadConsent, match="not signed"):
        Consent.open(json.dumps(envelope).encode(), owner_key=OWNER.public_key)


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[" * 9999, b"\xff", b"{}", b" " * 10_000, SIGNED[:-40]]
)
def test_damaged_files_are_refused(content: bytes) -> None:
    with pytest.raises(BadConsent):
        Consent.open(content, owner_key=OWNER.public_key)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"expires": "2000"},
        {"expires": True},
        {"expires": 500},
        {"expires": 10**11},
        {"plan": "../" * 20},
        {"site": 1},
        {"extra": "x"},
    ],
)
def test_signed_nonsense_is_refused(changes) -> None:
    payload = canonical({"version": 1} | FIELDS | changes)
    envelope = sign_envelope(payload, payload_type=TYPE, identity=OWNER)
    with pytest.raises(BadConsent, match="cannot be read"):
        Consent.open(json.dumps(envelope.to_dict()).encode(), owner_key=OWNER.public_key)


def test_signature_of_another_type_does_not_count() -> None:
    envelope = sign_envelope(
        canonical({"version": 1} | FIELDS), payload_type="text/plain", identity=OWNER
    )
    with pytest.raises(BadConsent, match="not signed"):
        Consent.open(json.dumps(envelope.to_dict()).encode(), owner_key=OWNER.public_key)


@pytest.mark.parametrize("days", [0, -1, 3661])
def test_days_that_cannot_be_are_refused(days: int) -> None:
    with pytest.raises(ConfigError, match="1 to 3660 days"):
        in_days(days)


def test_plan_names_cannot_leave_the_folder(tmp_path) -> None:
    with pytest.raises(ConfigError):
        consent_file(tmp_path, "../" * 21 + "x")
