"""The plan of a run between machines: what the owner of a site's images approves, byte for byte.

A plan is canonical JSON: the federation and its roster, the hash of the bundle that Flower ships,
and every setting of the run. Its SHA-256 names the session. All messages carry it, every site
looks the plan up under it, and an approval is a signature over it: a plan changed by one
character has another name and no approval.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import parse_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.secagg.pooled_plans import check_pooled_audit
from protocol import Roster
from protocol.encoding import is_id

__all__ = ["MAX_PLAN_BYTES", "Plan", "plan_hash", "plan_roster", "require_suite"]

MAX_PLAN_BYTES = 1 << 18
_VERSION = 1
# What the settings of sites and servers allow.
_MAX_NAME = 46


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One run of one federation.

    roster_hash    of the signed roster, in hexadecimal
    bundle_hash    of the code bundle that the server ships, in hexadecimal; sites run none of it
    """

    federation: str
    roster_hash: str
    bundle_hash: str
    config: RunConfig

    @classmethod
    def make(cls, config: RunConfig, *, roster: Roster, bundle_hash: str) -> Plan:
        """The plan of ``config`` over all members of ``roster``.

        Raises:     ConfigError for settings that only make sense in one process.
        """
        if len(roster.federation_id) > _MAX_NAME:
            raise ConfigError(f"the federation's name must have at most {_MAX_NAME} characters")
        if config.model.class_conditional and not config.data.class_names:
            raise ConfigError(
                "between machines the plan says which classes there are: set data.class_names, or "
                "model.class_conditional=false"
            )
        if config.audit.canaries:
            raise ConfigError(
                "canaries are planted in runs of one process only: set audit.canaries=0"
            )
        if config.data.image_size is None or config.data.channels is None:
            raise ConfigError(
                "between machines the server sees no image: set data.image_size and data.channels"
            )
        try:
            config.data.require_fixed_window("the sites' images would be on different scales")
        except ValueError as error:
            raise ConfigError(str(error)) from None
        check_pooled_audit(config)
        members = len(roster.members)
        if config.partition.num_sites != members:
            raise ConfigError(
                f"partition.num_sites = {config.partition.num_sites}, but the federation has "
                f"{members} sites: set partition.num_sites={members}"
            )
        require_suite(config, roster)
        return cls(
            federation=roster.federation_id,
            roster_hash=roster.hash.hex(),
            bundle_hash=bundle_hash,
            config=config.with_split(),
        )

    def to_bytes(self) -> bytes:
        """Canonical: sorted keys, no spaces, the same on every machine."""
        content = {
            "version": _VERSION,
            "federation": self.federation,
            "roster": self.roster_hash,
            "bundle": self.bundle_hash,
            "config": self.config.model_dump(mode="json"),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Read a plan that somebody else wrote.

        Raises:     ConfigError for anything that ``to_bytes`` does not make: also for other
                    spacing or a setting left to its default, so that one plan has one hash.
        """
        if len(data) > MAX_PLAN_BYTES:
            raise ConfigError(f"a plan has at most {MAX_PLAN_BYTES} bytes")
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ConfigError("a plan must be JSON") from error
        names = {"version", "federation", "roster", "bundle", "config"}
        if not isinstance(content, dict) or set(content) != names:
            raise ConfigError(f"a plan must have exactly the fields {', '.join(sorted(names))}")
        if content["version"] != _VERSION:
            raise ConfigError(f"this version reads plans of version {_VERSION}")
        if not is_id(content["federation"]):
            raise ConfigError("a plan must name its federation")
        for name in ("roster", "bundle"):
            if not _is_sha256(content[name]):
                raise ConfigError(f"a plan's {name} must be a SHA-256 in hexadecimal")
        if not isinstance(content["config"], dict):
            raise ConfigError("a plan's config must be an object")
        plan = cls(
            federation=content["federation"],
            roster_hash=content["roster"],
            bundle_hash=content["bundle"],
            config=parse_config(content["config"], source="plan"),
        )
        if plan.to_bytes() != data:
            raise ConfigError("a plan must be written as `phoenix-secure` writes it")
        return plan

    @property
    def hash(self) -> str:
        """SHA-256 of the plan: its name, and the session's."""
        return plan_hash(self.to_bytes())


def plan_hash(data: bytes) -> str:
    """The name of the plan in ``data``."""
    return hashlib.sha256(data).hexdigest()


def plan_roster(roster: Roster, plan: Plan) -> Roster:
    """The same members under a federation id of this plan alone.

    Every context hash and signature of secure rounds binds the federation id. Messages of one
    plan therefore mean nothing in another, also where both train the same model on the same
    settings. The id is the plan's whole hash, which names federation and roster: of a shortened one
    a server could make two plans that share it.
    """
    return dataclasses.replace(roster, federation_id=plan.hash)


def require_suite(config: RunConfig, roster: Roster) -> None:
    """Refuse settings that ask for another suite than the one of the federation's keys.

    Raises:     ConfigError.
    """
    asked, suite = config.secure_aggregation.suite, roster.suite
    if asked != suite.value:
        raise ConfigError(
            f"secure_aggregation.suite = {asked}, but the keys in the federation's roster are "
            f"{suite.value}: set secure_aggregation.suite={suite.value}, or make a federation with "
            f"keys of --suite {asked}"
        )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
