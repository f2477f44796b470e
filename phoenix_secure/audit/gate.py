"""A gate for continuous integration: what an audit must show before a model goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from phoenix_secure.audit.plan import Part
from phoenix_secure.audit.report import AuditReport, Outcome
from phoenix_secure.errors import ConfigError
from phoenix_secure.yaml_text import parse_value, read_yaml

__all__ = ["FAILED", "Gate"]

FAILED = 5  # the exit code
Share = Annotated[float, Field(ge=0, le=1)]


class Gate(Part):
    """Rules of a file such as::

        max_auc: 0.55            # of any attack whose placebo passed
        max_tpr: {0.01: 0.03}    # true positives at a false-positive rate, by its interval's end
        max_detectable_auc: 0.6  # the audit must have been able to find that much
        attacks: [loss, pia]     # must have run, and passed their placebo

    max_auc_high            of any attack, by its interval's upper end: stricter than max_auc
    allow_leak              go on although a leak was found, where the limits hold
    allow_inconclusive      go on although nothing could be decided
    max_copies              members that are copies of other members, pixel for pixel
    max_epsilon             a guarantee must be claimed, and not contradicted, of at most this
    """

    max_auc: Share | None = None
    max_auc_high: Share | None = None
    max_tpr: dict[Share, Share] = Field(default_factory=dict)
    max_detectable_auc: Share | None = None
    attacks: tuple[str, ...] = ()
    allow_leak: bool = False
    allow_inconclusive: bool = False
    max_copies: int | None = Field(None, ge=0)
    max_epsilon: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _limits_what_it_allows(self) -> Self:
        limits = (self.max_auc, self.max_auc_high, self.max_tpr or None)
        if self.allow_leak and all(limit is None for limit in limits):
            raise ValueError("allow_leak needs a limit: max_auc, max_auc_high or max_tpr")
        return self

    @classmethod
    def read(cls, path: Path) -> Gate:
        """The rules of a YAML file.

        Raises:     ConfigError naming the file, the rule and what it takes.
        """
        try:
            found = read_yaml(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}: give a YAML file of rules") from None
        if not isinstance(found, dict):
            known = ", ".join(cls.model_fields)
            raise ConfigError(f"{path} holds no rules: give one or more of {known}")
        if isinstance(found.get("max_tpr"), dict):
            # Keys of YAML are text here; these are numbers.
            rates = {
                parse_value(str(rate), name="max_tpr"): tpr
                for rate, tpr in found["max_tpr"].items()
            }
            found = {**found, "max_tpr": rates}
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.model_fields)
            raise ConfigError(
                f"{path}: {where or 'the gate'}: {first['msg']} (rules: {known})"
            ) from None

    def objections(self, report: AuditReport) -> tuple[str, ...]:
        """Every rule that ``report`` breaks, with the figure; none: the gate is passed.

        What cannot be estimated breaks the rule that asks for it.
        """
        return (
            *self._of_outcome(report),
            *self._of_attacks(report),
            *self._of_rates(report),
            *self._of_power(report),
            *self._of_members(report),
            *self._of_claim(report),
        )

    def _of_outcome(self, report: AuditReport) -> list[str]:
        verdict = report.verdict
        if verdict.fail:
            return ["the claimed guarantee is contradicted"]
        allowed = {Outcome.LEAK: self.allow_leak, Outcome.INCONCLUSIVE: self.allow_inconclusive}
        return [] if allowed.get(verdict.outcome, True) else [f"verdict: {verdict.headline}"]

    def _of_attacks(self, report: AuditReport) -> list[str]:
        trusted = {one.name: one for one in report.deciding if one.placebo_inside}
        found = [
            f"attacks: {name} was not run, or failed its placebo"
            for name in self.attacks
            if name not in trusted
        ]
        for one in trusted.values():
            for rule, limit, value in (
                ("max_auc", self.max_auc, one.auc.value),
                ("max_auc_high", self.max_auc_high, one.auc.high),
            ):
                if limit is not None and value > limit:
                    found.append(f"{rule}: {one.name} has {value:.3f}, above {limit:g}")
        if not trusted:
            found.append("attacks: none passed its placebo")
        return found

    def _of_rates(self, report: AuditReport) -> list[str]:
        found = []
        for fpr, limit in self.max_tpr.items():
            for one in report.deciding:
                at = next((tpr for tpr in one.tpr if abs(tpr.fpr - fpr) < 1e-12), None)
                if at is None:
                    found.append(f"max_tpr: add --fpr {fpr:g}")
                    break
                if one.placebo_inside and at.tpr is None:
                    found.append(f"max_tpr: at FPR {fpr:g} {at.reason}")
                    break
                if one.placebo_inside and at.tpr is not None and at.tpr.high > limit:
                    found.append(
                        f"max_tpr: {one.name} may have {at.tpr.high:.3f} at FPR {fpr:g} (found "
                        f"{at.tpr.value:.3f}), above {limit:g}"
                    )
        return found

    def _of_power(self, report: AuditReport) -> list[str]:
        limit, found = self.max_detectable_auc, report.verdict.detectable_auc
        if limit is None or found <= limit:
            return []
        return [f"max_detectable_auc: {found:.3f}, above {limit:g}: audit more images"]

    def _of_members(self, report: AuditReport) -> list[str]:
        if self.max_copies is None:
            return []
        if report.copies is None:
            return ["max_copies: the audit did not count them"]
        found = report.copies.exact
        return [] if found <= self.max_copies else [f"max_copies: {found} members are copies"]

    def _of_claim(self, report: AuditReport) -> list[str]:
        if self.max_epsilon is None:
            return []
        claim = report.plan.claim
        if claim is None:
            return ["max_epsilon: no guarantee is claimed"]
        if claim.epsilon <= self.max_epsilon:
            return []
        return [f"max_epsilon: {claim.epsilon:g} is claimed, above {self.max_epsilon:g}"]
