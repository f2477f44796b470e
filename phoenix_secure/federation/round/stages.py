"""The stages of a federation's rounds beyond those of the protocol, as both ends name them."""

from __future__ import annotations

__all__ = ["AUDIT_PREFIX", "EXCLUSION_STAGE", "PLAN_STAGE", "ROSTER_STAGE", "WITNESS_STAGE"]

PLAN_STAGE = "plan"  # a site hears what it is asked to take part in
WITNESS_STAGE = "witness"  # a site signs the server's tree head
EXCLUSION_STAGE = "excluded"  # a site hears who is never asked again, and why
ROSTER_STAGE = "roster"  # a site gets the newest rosters that the federation's owner signed
AUDIT_PREFIX = "audit-"  # before the stages of the protocol, in a pooled audit
