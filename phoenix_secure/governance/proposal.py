"""The coordinator's proposal to one site: a plan, the code it needs, and the model's release.

Three files travel as the code of a PySyft job. ``main.py`` only says that it is not to be run.
``plan.json`` holds the plan's bytes. ``proposal.json`` names plan, site, code and release; it is
signed by the server key of the roster, because in PySyft's folders anybody can be anybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence.canonical import NotCanonical, canonical, parse_canonical
from phoenix_secure.evidence.dsse import BadEnvelope, Envelope, sign_envelope
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.policy import Release
from protocol import Identity, Roster
from protocol.encoding import is_id

__all__ = ["MAIN", "PLAN", "PROPOSAL", "Proposal", "is_sha256"]

MAIN, PLAN, PROPOSAL = "main.py", "plan.json", "proposal.json"
_TYPE = "application/vnd.phoenix-secure.proposal+json"
_NOT_A_PROGRAM = (
    b"raise SystemExit('a training plan: the site worker carries it out, and nobody runs this')\n"
)
_MAX_PURPOSE = 1000
_FIELDS = {"version", "federation", "site", "plan", "code", "release", "purpose"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A plan put before one site.

    code       ``installed_code`` of the coordinator, in hexadecimal
    release    who may get the trained model and its samples
    purpose    what the model is for, in the coordinator's words
    """

    site: str
    plan: Plan
    code: str
    release: Release
    purpose: str

    def __post_init__(self) -> None:
        if not is_id(self.site):
            raise ConfigError(f"site name {self.site!r} is not one of a roster")
        if not is_sha256(self.code):
            raise ConfigError("the digest of the code must be a SHA-256 in hexadecimal")
        if self.release not in get_args(Release):
            raise ConfigError(f"release must be one of {', '.join(get_args(Release))}")
        if not self.purpose.strip() or len(self.purpose) > _MAX_PURPOSE:
            raise ConfigError(f"purpose must say in 1 to {_MAX_PURPOSE} characters what it is for")
        if not self.purpose.isprintable():
            # It is shown on a terminal: no escape sequences, no second line that looks like ours.
            raise ConfigError("purpose must be one line of printable characters")

    def files(self, *, server: Identity) -> dict[str, bytes]:
        """The files of the job, signed by ``server``."""
        facts = {
            "version": 1,
            "federation": self.plan.federation,
            "site": self.site,
            "plan": self.plan.hash,
            "code": self.code,
            "release": self.release,
            "purpose": self.purpose,
        }
        envelope = sign_envelope(canonical(facts), payload_type=_TYPE, identity=server)
        return {
            MAIN: _NOT_A_PROGRAM,
            PLAN: self.plan.to_bytes(),
            PROPOSAL: (json.dumps(envelope.to_dict(), indent=2, sort_keys=True) + "\n").encode(),
        }

    @classmethod
    def read(cls, files: Mapping[str, bytes], *, site: str, roster: Roster) -> Proposal:
        """The proposal in ``files``, which anybody may have written.

        Guarantee:  it was signed by the server of ``roster`` for this site and this very plan.
        Raises:     ConfigError saying in one line what is wrong with it.
        """
        if set(files) != {MAIN, PLAN, PROPOSAL}:
            raise ConfigError(f"a proposal has exactly the files {MAIN}, {PLAN} and {PROPOSAL}")
        if files[MAIN] != _NOT_A_PROGRAM:
            raise ConfigError(f"{MAIN} is a program: a proposal holds none")
        facts = _signed_facts(files[PROPOSAL], server_key=roster.server_key)
        plan = Plan.from_bytes(files[PLAN])
        if facts["plan"] != plan.hash:
            raise ConfigError("the plan is not the one that the server signed")
        if facts["site"] != site or facts["federation"] != roster.federation_id:
            raise ConfigError("the proposal is for another site or federation")
        if plan.federation != roster.federation_id or plan.roster_hash != roster.hash.hex():
            raise ConfigError("the plan names another roster than this site pinned")
        return cls(
            site=site,
            plan=plan,
            code=facts["code"],
            release=facts["release"],
            purpose=facts["purpose"],
        )


def _signed_facts(content: bytes, *, server_key: bytes) -> dict[str, Any]:
    try:
        envelope = Envelope.from_dict(json.loads(content))
        facts = parse_canonical(envelope.open(server_key, payload_type=_TYPE))
    except BadEnvelope as error:
        raise ConfigError(f"the proposal is not signed by the roster's server: {error}") from error
    except (NotCanonical, ValueError, RecursionError) as error:
        raise ConfigError(f"{PROPOSAL} cannot be read") from error
    if not isinstance(facts, dict) or set(facts) != _FIELDS or facts["version"] != 1:
        raise ConfigError("this version reads proposals of version 1")
    if not all(isinstance(facts[name], str) for name in _FIELDS - {"version"}):
        raise ConfigError("the fields of a proposal must be text")
    return facts


def is_sha256(value: object) -> bool:
    """Whether ``value`` is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
