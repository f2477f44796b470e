"""The summary of a finished run, as written to summary.json and read by reports and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.report import TermsRecord

__all__ = ["DeploymentRecord", "RunSummary", "SecureSummary", "read_summary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SecureSummary:
    """All secure rounds of a run together.

    clipped_updates   None where differential privacy hides it
    """

    terms: TermsRecord
    clipped_updates: int | None = None
    failed_attempts: int = 0
    last_transcript: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.terms.to_dict(),
            "clipped_updates": self.clipped_updates,
            "failed_attempts": self.failed_attempts,
            "last_transcript": self.last_transcript,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class DeploymentRecord:
    """The plan that the owners of deployed sites approved: names and hashes in hexadecimal."""

    federation: str
    plan: str
    roster: str
    bundle: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One finished run.

    loss              of the last round; None where the sites tell none
    secure            None where the server saw every site's update
    quality           tables of the final model's samples; None where none were evaluated
    quality_personal  the same for the sites' personal models together
    strategies        what sharing, exchange and filtering did
    guarantee         as the run stated it (``privacy.guarantee.Guarantee.to_dict``)
    deployment        None for a simulation
    skipped_rounds    signed, and never summed
    release           what a release summed and what was made of it; None for a run of rounds
    """

    rounds: int
    sites: int
    num_parameters: int
    bytes_down: int
    bytes_up: int
    training_seconds: float
    loss: float | None
    secure: SecureSummary | None
    quality: dict[str, Any] | None = None
    quality_personal: dict[str, Any] | None = None
    strategies: Mapping[str, Any] | None = None
    guarantee: dict[str, Any] | None = None
    deployment: DeploymentRecord | None = None
    skipped_rounds: tuple[int, ...] = ()
    release: Mapping[str, Any] | None = None

    @classmethod
    def of_rounds(
        cls,
        metrics: Sequence[Mapping[str, Any]],
        *,
        num_rounds: int,
        num_sites: int,
        num_parameters: int,
        terms: TermsRecord | None,
    ) -> RunSummary:
        """The totals of the lines of metrics.jsonl."""
        secure = None
        if terms is not None:
            rounds = [line["secure"] for line in metrics]
            clipped = [line["clipped"] for line in rounds]
            secure = SecureSummary(
                terms=terms,
                clipped_updates=None if None in clipped else sum(clipped),
                failed_attempts=sum(line["attempts"] - 1 for line in rounds),
                last_transcript=rounds[-1]["transcript"] if rounds else None,
            )
        return cls(
            rounds=num_rounds,
            sites=num_sites,
            num_parameters=num_parameters,
            bytes_down=sum(line["bytes_down"] for line in metrics),
            bytes_up=sum(line["bytes_up"] for line in metrics),
            training_seconds=sum(line["seconds"] for line in metrics),
            loss=metrics[-1]["loss"] if metrics else None,
            secure=secure,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; loudly, where the server saw each update."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {
            "secure_aggregation": "off" if self.secure is None else "on",
            "skipped_rounds": list(self.skipped_rounds),
        }
        del values["deployment"], values["secure"], values["quality_personal"], values["release"]
        if self.release is not None:
            values["release"] = dict(self.release)
        if self.quality_personal is not None:
            values["quality_personal"] = self.quality_personal
        if self.secure is None:
            values["warning"] = "secure aggregation was off: the server saw every site's update"
        else:
            values["secure"] = self.secure.to_dict()
        return values if self.deployment is None else values | asdict(self.deployment)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunSummary:
        """A summary that this or an earlier version wrote.

        Raises:     ValueError when an entry that every version wrote is missing.
        """
        if not isinstance(content, Mapping):
            raise ValueError("expected an object in a run's summary")
        try:
            summary = cls(
                secure=_secure(content),
                **{name: content[name] for name in _TOTALS},
            )
        except KeyError as error:
            raise ValueError(f"expected {error.args[0]} in a run's summary") from error
        found: dict[str, Any] = {name: content[name] for name in _OPTIONAL if name in content}
        if not all(value is None or isinstance(value, dict) for value in found.values()):
            raise ValueError("expected objects in a run's summary")
        if "plan" in content:
            names = [each.name for each in fields(DeploymentRecord)]
            found["deployment"] = DeploymentRecord(**{name: content[name] for name in names})
        return replace(summary, skipped_rounds=tuple(content.get("skipped_rounds", ())), **found)


_TOTALS = (
    *("rounds", "sites", "num_parameters"),
    *("bytes_down", "bytes_up", "training_seconds", "loss"),
)
_OPTIONAL = ("quality", "quality_personal", "strategies", "guarantee", "release")


def read_summary(folder: Path) -> RunSummary:
    """The summary of the finished run in ``folder``.

    Raises:     CheckpointError when there is none that can be read.
    """
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return RunSummary.from_dict(content)
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is not a finished run (no readable summary.json): finish it with `resume`"
        ) from error


def _secure(content: Mapping[str, Any]) -> SecureSummary | None:
    # Deployments of 0.1.0 wrote their terms alone.
    found = content.get("secure") or content.get("terms")
    if found is None:
        return None
    names = ("clipped_updates", "failed_attempts", "last_transcript")
    totals = {name: found[name] for name in names if name in found}
    return SecureSummary(terms=TermsRecord.from_dict(found), **totals)
