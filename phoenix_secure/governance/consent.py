"""The owner's signature under what was reviewed: ``approvals/PLAN.consent.json`` at the site."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence.canonical import NotCanonical, canonical, parse_canonical
from phoenix_secure.evidence.dsse import BadEnvelope, Envelope, sign_envelope
from phoenix_secure.governance.proposal import is_sha256
from protocol import Identity

__all__ = ["BadConsent", "Consent", "consent_file"]

_TYPE = "application/vnd.phoenix-secure.consent+json"
_MAX_BYTES = 8192
_MAX_DAYS = 3660
_SHA256_FIELDS = ("plan", "submission", "code")


class BadConsent(ValueError):  # noqa: N818
    """A consent that is not one of this site's owner; the message is for the site's own log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Consent:
    """The owner's consent, with its expiry.

    plan          hash of the plan
    submission    ``Submission.digest`` of the job as it was reviewed
    code          ``installed_code`` of the site at that time
    release       who may get the model
    coordinator   address of the submitter in PySyft
    job           the job's name in PySyft
    signed, expires    seconds since 1970, UTC
    """

    site: str
    federation: str
    plan: str
    submission: str
    code: str
    release: str
    coordinator: str
    job: str
    signed: int
    expires: int

    def __post_init__(self) -> None:
        if not all(is_sha256(getattr(self, name)) for name in _SHA256_FIELDS):
            raise ValueError(f"expected SHA-256 in hexadecimal for {', '.join(_SHA256_FIELDS)}")
        if not 0 < self.signed < self.expires <= self.signed + _MAX_DAYS * 86_400:
            raise ValueError(f"expected a consent for 1 second to {_MAX_DAYS} days")

    def sign(self, owner: Identity) -> bytes:
        """The signed file: a DSSE envelope around canonical JSON."""
        payload = canonical({"version": 1, **asdict(self)})
        envelope = sign_envelope(payload, payload_type=_TYPE, identity=owner)
        return (json.dumps(envelope.to_dict(), indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def open(cls, content: bytes, *, owner_key: bytes) -> Consent:
        """Read a consent that ``owner_key`` signed.

        Raises:     BadConsent.
        """
        if len(content) > _MAX_BYTES:
            raise BadConsent("the approval cannot be read")
        try:
            envelope = Envelope.from_dict(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise BadConsent("the approval cannot be read") from error
        try:
            payload = envelope.open(owner_key, payload_type=_TYPE)
        except BadEnvelope as error:
            raise BadConsent("the approval is not signed by the owner") from error
        try:
            return cls(**_typed(parse_canonical(payload)))
        except (NotCanonical, ValueError, TypeError) as error:
            raise BadConsent("the approval cannot be read") from error


def consent_file(approvals: Path, plan: str) -> Path:
    """Path of the consent to ``plan``."""
    if not is_sha256(plan):
        raise ConfigError("a plan is named by 64 hexadecimal digits: see `site review`")
    return approvals / f"{plan}.consent.json"


def in_days(days: int) -> tuple[int, int]:
    """Now and ``days`` later, in seconds since 1970.

    Raises:     ConfigError for a number of days that cannot be.
    """
    if not 1 <= days <= _MAX_DAYS:
        raise ConfigError(f"an approval holds for 1 to {_MAX_DAYS} days, got {days}")
    now = int(dt.datetime.now(dt.UTC).timestamp())
    return now, now + days * 86_400


def _typed(value: Any) -> dict[str, Any]:
    names = {field.name for field in fields(Consent)}
    if not isinstance(value, dict) or set(value) != names | {"version"} or value["version"] != 1:
        raise TypeError("expected the fields of a consent")
    facts = {name: value[name] for name in names}
    for name, fact in facts.items():
        kind = int if name in ("signed", "expires") else str
        if type(fact) is not kind:
            raise TypeError(f"expected {kind.__name__} for {name}")
    return facts
