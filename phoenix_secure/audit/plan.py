"""The audit plan, written and hashed before the first score exists.

It holds attacks, settings to choose from, groups of images by digest, false-positive rates, guess
budget and seed. Readers of the report can check that none of it was chosen after looking.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import append_line, storage_errors, write_bytes

__all__ = [
    "AuditPlan",
    "Claim",
    "Part",
    "PlannedAttack",
    "PlannedCanaries",
    "PlannedGroup",
    "PlannedPersons",
    "PlannedPool",
]


class Part(BaseModel):
    """Base class of all parts of plan and report: frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Claim(Part):
    """A differential-privacy guarantee that is claimed for the target."""

    unit: str
    epsilon: float
    delta: float
    source: str


class PlannedAttack(Part):
    """An attack and the settings that it may choose from, on the tuning split."""

    name: str
    access: str
    settings: tuple[str, ...]


class PlannedGroup(Part):
    """A group of images; the digest covers pixels and membership, keyed for a private run."""

    num_members: int
    num_others: int
    sha256: str


class PlannedPersons(Part):
    """The persons that the evaluation group's images are of, where the set says so: the verdict
    then rests on them.

    low_fpr        the one that is tested for them
    aggregations   how a person's scores become one: "mean", and "ratio" where it can differ
    """

    aggregations: tuple[str, ...]
    num_members: int
    num_others: int
    low_fpr: float | None


class PlannedCanaries(Part):
    """The one-run game: the budget of guesses is fixed here."""

    num_canaries: int
    sha256: str
    guesses_each_side: tuple[int, ...]
    delta: float


class PlannedPool(Part):
    """A pooled audit of a deployment: bins, bounds and minimum counts, alike at every site.

    plan          SHA-256 of the plan that the sites' owners approved
    max_images    members, and as many others, that one site enters at most
    min_images    every site must have so many of either before any count is asked for
    fewest_sites  whose counts are used at all
    """

    plan: str
    bins: int
    ranges: dict[str, tuple[float, float]]  # of log2 of minus the score, by attack
    max_images: int
    min_images: int
    fewest_sites: int


class AuditPlan(Part):
    """Everything that decides the figures."""

    format: Literal["phoenix-secure/audit-plan/v1"] = "phoenix-secure/audit-plan/v1"
    version: str
    target_kind: str
    target_sha256: str
    profile: str
    seed: int
    attacks: tuple[PlannedAttack, ...]
    fprs: tuple[float, ...]
    low_fpr: float | None  # the one of ``fprs`` that is tested; None when none can be estimated
    confidence: float
    significance: float  # of the verdict "leak found", all attacks together
    max_detectable_auc: float  # a larger one makes "no leak detected" inconclusive
    choice: PlannedGroup
    evaluation: PlannedGroup
    # Unwritten where there are none: plans from before keep their hash.
    persons: PlannedPersons | None = Field(None, exclude_if=lambda persons: persons is None)
    # Unwritten but for a pooled audit, whose images stay at their sites: ``evaluation`` then holds
    # the most images that there can be, and no digest.
    pooled: PlannedPool | None = Field(None, exclude_if=lambda pool: pool is None)
    num_calibration: int
    num_samples: int
    num_shadows: int
    canaries: PlannedCanaries | None
    claim: Claim | None

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """Hash of ``to_bytes``."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def keeps(self, terms: Mapping[str, Any], *, skipped: Iterable[str]) -> bool:
        """Whether the plan is what was fixed earlier (``Request.terms``).

        skipped   attacks that could not be run here, as the report says; any other that is
                  missing, or was added, breaks the terms
        """
        same = ("version", "profile", "seed", "significance")
        attacks = terms.get("attacks")
        if not (isinstance(attacks, list) and all(isinstance(name, str) for name in attacks)):
            return False
        return (
            all(terms.get(name) == getattr(self, name) for name in same)
            and terms.get("fprs") == list(self.fprs)
            and {attack.name for attack in self.attacks} | set(skipped) == set(attacks)
        )

    def write(self, out: Path) -> int:
        """Write ``plan.json``, log the plan in ``plans.jsonl``, and wait for the disk.

        Returns:    how many other plans this folder has seen: the audit was looked at that often.
        """
        log = out / "plans.jsonl"
        with storage_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        earlier = _earlier(log)
        write_bytes(out / "plan.json", self.to_bytes() + b"\n")
        if not earlier or earlier[-1] != self.sha256:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            append_line(log, json.dumps({"plan": self.sha256, "time": now}, sort_keys=True))
        return len(set(earlier) - {self.sha256})


def _earlier(log: Path) -> list[str]:
    if not log.exists():
        return []
    try:
        return [
            str(json.loads(line)["plan"]) for line in log.read_text(encoding="utf-8").splitlines()
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{log} is damaged: choose another folder with --out") from error
