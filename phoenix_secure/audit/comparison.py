"""Two audits of the same images: by how much each attack's AUC differs, image by image."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from attacks.statistics.auc import auc_difference
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.report import AuditReport, ComparedAttack, ComparedReport, Figure
from phoenix_secure.audit.suite import Findings
from phoenix_secure.data.archive import read_arrays
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.files import write_bytes

__all__ = ["SCORES", "EarlierAudit", "save_scores"]

SCORES = "scores.npz"
_MEMBERSHIP, _SCORE = "membership", "score:"
_ADVICE = "audit again with --edition confidential, which keeps the scores of single images"


def save_scores(findings: Findings, path: Path) -> None:
    """Every attack's scores of the evaluation group, for comparisons; confidential."""
    arrays = {f"{_SCORE}{one.name}": np.asarray(one.scores, float) for one in findings.scored}
    membership = {_MEMBERSHIP: findings.roles.evaluation.membership}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **membership, **arrays)
    write_bytes(path, buffer.getvalue())


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierAudit:
    """A confidential audit that another one is compared with; ``scores`` (N,) by attack."""

    name: str
    report: AuditReport
    membership: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float64]] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> EarlierAudit:
        """Read the folder of an ``audit.json``.

        Raises:     DataError where there is none, or it kept no scores or is damaged.
        """
        report = _report_of(folder)
        if not (folder / SCORES).exists():
            raise DataError(f"{folder} has no {SCORES}: {_ADVICE}")
        arrays = read_arrays(folder / SCORES, advice=_ADVICE)
        membership = arrays.get(_MEMBERSHIP, np.empty(0))
        scores = {
            name.removeprefix(_SCORE): values
            for name, values in arrays.items()
            if name.startswith(_SCORE)
        }
        sizes = report.plan.evaluation
        expected = np.arange(sizes.num_members + sizes.num_others) < sizes.num_members
        if not np.array_equal(membership, expected) or any(
            values.shape != expected.shape
            or values.dtype != np.float64
            or not np.isfinite(values).all()
            for values in scores.values()
        ):
            raise DataError(f"{folder / SCORES} does not fit its audit: {_ADVICE}")
        return cls(name=folder.name, report=report, membership=expected, scores=scores)

    def require_same(self, plan: AuditPlan) -> None:
        """Before a score is computed.

        Raises:     ConfigError where ``plan`` is not about the same images, or no attack of both.
        """
        if self.report.plan.evaluation.sha256 != plan.evaluation.sha256:
            raise ConfigError(
                f"the audit in {self.name} is of other images, or dealt them otherwise: audit both "
                "models with the same --members, --non-members, --profile and --seed"
            )
        if not {attack.name for attack in plan.attacks} & set(self.scores):
            raise ConfigError(
                f"no attack is run both now and in {self.name}: choose the same --attack"
            )

    def compare(self, findings: Findings) -> ComparedReport:
        """AUC now minus AUC then, for every attack of both.

        Intervals are DeLong's for the same records, so that what both audits share cancels; they
        hold for all attacks together (Bonferroni).
        """
        plan = findings.report.plan
        common = [one for one in findings.scored if one.name in self.scores]
        confidence = 1 - (1 - plan.confidence) / max(1, len(common))
        rows = []
        for one in common:
            value, interval = auc_difference(
                one.scores,
                baseline=self.scores[one.name],
                membership=self.membership,
                confidence=confidence,
            )
            change = Figure(value=value, low=interval.low, high=interval.high)
            rows.append(ComparedAttack(name=one.name, change=change))
        return ComparedReport(
            before=self.name, before_plan_sha256=self.report.plan_sha256, attacks=tuple(rows)
        )


def _report_of(folder: Path) -> AuditReport:
    path = folder / "audit.json"
    try:
        return AuditReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(
            f"{folder} holds no audit that can be read: give the folder of an audit.json"
        ) from error
