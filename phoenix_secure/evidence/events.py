"""The ledger's vocabulary, one comment for each word.

A word is never removed or given another meaning; a reader that does not know one says so.
"""

from __future__ import annotations

import enum

__all__ = ["Event"]


class Event(enum.StrEnum):
    """Facts beside each are listed in ``docs/compliance.md``."""

    OPENED = "opened"  # the ledger itself: its id and the key that signs it
    PLAN = "plan"  # what was agreed between server and sites, by hash
    ROSTER = "roster"  # who may take part, by the hash of the signed list
    CONFIG = "config"  # the resolved settings
    VERSIONS = "versions"  # libraries, Python, operating system
    ROUND_STARTED = "round-started"  # before the first request of the round leaves
    PRIVACY = "privacy"  # a release is charged, before anything leaves
    AGGREGATED = "aggregated"  # the sum of a round, before the model moves
    DROPOUT = "dropout"  # a site that was asked and is not in the sum
    EXCLUDED = "excluded"  # a site that is never asked again, before anybody is told
    FAILED = "failed"  # a round, or the run, ended without a result
    RESUMED = "resumed"  # the run goes on from a checkpoint
    CHECKPOINT = "checkpoint"  # the state after a round, before it is kept
    WITNESSED = "witnessed"  # sites signed the head that the server showed them
    EVALUATED = "evaluated"  # the quality of samples
    AUDIT_PLANNED = "audit-planned"  # attacks and thresholds, before training
    AUDITED = "audited"  # the result of the audit, by hash
    AUDIT_FAILED = "audit-failed"  # a pooled audit ended without a result
    MARKED = "marked"  # a synthetic picture, by hash, and the certificates of its mark
    EXPORTED = "exported"  # the model, file by file
