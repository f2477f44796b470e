"""The audit's report as data: ``audit.json``. The schema is ``AuditReport.model_json_schema()``."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from phoenix_secure.audit.plan import AuditPlan, Part
from phoenix_secure.audit.report_games import (
    DatasetInferenceReport,
    ExtractionReport,
    InversionReport,
)

__all__ = [
    "AttackReport",
    "AuditReport",
    "BlindReport",
    "CanaryReport",
    "ComparedAttack",
    "ComparedReport",
    "CopiesReport",
    "CopyingReport",
    "ExposedReport",
    "FederatedReport",
    "FederatedRow",
    "Figure",
    "Outcome",
    "PersonsReport",
    "PooledReport",
    "StratumReport",
    "TprReport",
    "Verdict",
]


def _is_none(part: object) -> bool:
    return part is None


_FEWEST_ALIKE = 5  # unseen images by which chance look-alikes are known


class Outcome(StrEnum):
    """Three answers; none of them is "private"."""

    LEAK = "leak found"
    NONE = "none found at this detectable effect"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        """0 no leak detected, 3 leak found, 4 inconclusive."""
        return {"leak found": 3, "inconclusive": 4}.get(self.value, 0)


class Figure(Part):
    """A value with its interval at the plan's confidence."""

    value: float
    low: float
    high: float


class TprReport(Part):
    """The true-positive rate at an FPR, or why there is none."""

    fpr: float
    tpr: Figure | None
    true_fpr: Figure | None  # where this threshold's FPR on fresh non-members may lie
    coarse: bool
    reason: str | None


class AttackReport(Part):
    """One attack on the evaluation group.

    p_adjusted:   the smaller of its two Holm-adjusted p-values, over all attacks and both tests.
    reversed:     the direction is the opposite of the published one, chosen on the tuning split.
    excess:       AUC beyond the blind baseline's, on the same records.
    above_ceiling:  the ROC lies above what the claimed guarantee allows; None without a claim.
    curve:        attainable points (FPR, TPR), thinned evenly on the logarithm of the FPR.
    """

    name: str
    access: str
    setting: str
    reversed: bool
    chosen_on: str
    choice_aucs: dict[str, float]
    auc: Figure
    tpr: tuple[TprReport, ...]
    curve: tuple[tuple[float, float], ...] = ()
    advantage: Figure
    p_rank: float
    p_low_fpr: float | None
    p_adjusted: float
    placebo_auc: float
    placebo_band: tuple[float, float]
    placebo_inside: bool
    excess: Figure | None
    above_ceiling: bool | None
    queries_per_record: float
    seconds: float


class BlindReport(Part):
    """Telling members from non-members without the model."""

    auc: Figure | None
    differs: bool | None
    reason: str | None


class StratumReport(Part):
    """An attack's AUC in one class, for members of one site, or for one value of a column."""

    kind: Literal["class", "site", "column"]
    group: str
    num_members: int
    num_non_members: int
    auc: Figure | None
    reason: str | None


class ExposedReport(Part):
    """A member that stands out; confidential edition only.

    index                counts the member images, as do ``nearest_members``, nearest first
    member_distance      root mean square difference of pixels in [-1, 1] to the nearest of them
    isolation            share of members that have another one nearer to them than that
    non_member_distance, sample_distance     to the nearest non-member and sample; None: no samples

    Audits of before have ``index`` and ``p_adjusted`` alone.
    """

    index: int
    p_adjusted: float
    class_name: str | None = None
    site: str | None = None
    nearest_members: tuple[int, ...] = ()
    member_distance: float | None = None
    isolation: float | None = None
    non_member_distance: float | None = None
    sample_distance: float | None = None


class CopiesReport(Part):
    """Copies among the members, pixel for pixel or nearly; ``across``: images, members or not, with
    one nearly like them on the other side, which blurs what any attack can find.

    others, alike_others    non-members, and those of them with a member nearly like them: how alike
                            such images are by nature; 0 in audits of before
    """

    num_members: int
    exact: int
    near: int
    across: int
    others: int = 0
    alike_others: int = 0

    @property
    def alike_by_nature(self) -> bool:
        """Whether unseen images are as often nearly like a member as members are like another."""
        of_others = self.alike_others * self.num_members
        return self.alike_others >= _FEWEST_ALIKE and self.near * self.others <= 2 * of_others


class ComparedAttack(Part):
    """An attack's AUC minus that of an earlier audit of the same images."""

    name: str
    change: Figure


class ComparedReport(Part):
    """This audit against an earlier one; ``before`` is the name of its folder."""

    before: str
    before_plan_sha256: str
    attacks: tuple[ComparedAttack, ...]


class CopyingReport(Part):
    """Screening of released samples; none of these is a membership attack."""

    num_samples: int
    authenticity: float
    closer_share: float | None
    closer_p: float | None
    extracted: int
    extracted_control: int
    extraction_rate_high: float


class CanaryReport(Part):
    """The one-run lower bound on epsilon, and what it says about the claim.

    placebo_epsilon:  the same bound (Steinke) for coins that were thrown again afterwards.
    """

    num_canaries: int
    num_included: int
    auc: Figure
    delta: float
    epsilon_steinke: float
    ceiling_steinke: float
    epsilon_gaussian: float
    ceiling_gaussian: float
    claimed_epsilon: float | None
    claim: Literal["no claim", "contradicted", "not contradicted", "cannot be contradicted"]
    placebo_epsilon: float | None = Field(None, exclude_if=_is_none)
    queries_per_record: float | None = Field(None, exclude_if=_is_none)
    seconds: float | None = Field(None, exclude_if=_is_none)


class FederatedRow(Part):
    """The leakage of one view of the updates about the members of the sites."""

    view: str
    attack: str
    auc: Figure
    tpr: TprReport


class FederatedReport(Part):
    """The same attacker with and without secure aggregation."""

    rounds: tuple[int, ...]
    secure_aggregation: str  # what the run itself used
    num_members: int
    num_non_members: int
    rows: tuple[FederatedRow, ...]
    seconds: float


class PersonsReport(Part):
    """Membership of persons, each from all of her images.

    attacks:    each attack by the mean of a person's scores and, where persons differ in their
                number of images, by the log likelihood ratio of them all; p-values are adjusted
                over all of these rows.
    strata:     of the attack with the smallest p, by the class that most of a person's images have.
    """

    num_members: int
    num_non_members: int
    images_in_the_middle: float  # the median over persons
    images_of_most: int
    attacks: tuple[AttackReport, ...]
    blind: BlindReport
    strata: tuple[StratumReport, ...]


class PooledReport(Part):
    """Who is behind the counts of a pooled audit, and the distance of samples from held-out images.

    unit            what is counted: "image" or "person"
    num_members     and ``num_others``: of all sites together
    sites_asked     of the plan's roster
    sites_answered  in the sum of counts
    sites_entered   of those, who had images enough
    noise           added to the counts, in words
    frechet         Frechet distance of samples from held-out images; None where too few
    """

    unit: Literal["image", "person"]
    num_members: int
    num_others: int
    sites_asked: int
    sites_answered: int
    sites_entered: int
    noise: Literal["none: exact sums"]
    frechet: float | None
    frechet_name: str
    frechet_held_out: int
    frechet_samples: int


class Verdict(Part):
    """The answer and what it rests on."""

    outcome: Outcome
    fail: bool  # a claimed guarantee is contradicted
    reasons: tuple[str, ...]
    detectable_auc: float
    detectable_tpr: float | None
    false_alarm: str

    @property
    def headline(self) -> str:
        """The outcome as a reader sees it; ``outcome`` is the value in files."""
        words = self.outcome.value
        if self.outcome is Outcome.NONE:
            words = f"no leak detected (minimum detectable AUC {self.detectable_auc:.3f})"
        return f"FAIL: {words}" if self.fail else words


class AuditReport(Part):
    """Everything that an audit found."""

    format: Literal["phoenix-secure/audit/v1"] = "phoenix-secure/audit/v1"
    edition: Literal["public", "confidential"]
    verdict: Verdict
    game: tuple[str, ...]
    target: dict[str, str]
    plan: AuditPlan
    plan_sha256: str
    other_plans: int
    choice_source: str
    attacks: tuple[AttackReport, ...]
    skipped: dict[str, str]
    blind: BlindReport
    loss_of_members: float | None
    loss_of_non_members: float | None
    strata: tuple[StratumReport, ...]
    exposed: tuple[ExposedReport, ...]
    copying: CopyingReport | None
    canaries: CanaryReport | None
    federated: FederatedReport | None
    # Unwritten where they were not asked for, or the images do not say whose they are.
    dataset_inference: DatasetInferenceReport | None = Field(None, exclude_if=_is_none)
    extraction: ExtractionReport | None = Field(None, exclude_if=_is_none)
    inversion: InversionReport | None = Field(None, exclude_if=_is_none)
    persons: PersonsReport | None = Field(None, exclude_if=_is_none)
    copies: CopiesReport | None = Field(None, exclude_if=_is_none)
    compared: ComparedReport | None = Field(None, exclude_if=_is_none)
    advice: tuple[str, ...] = Field((), exclude_if=lambda advice: not advice)
    pooled: PooledReport | None = Field(None, exclude_if=_is_none)
    seconds: float

    @property
    def num_images(self) -> tuple[int, int]:
        """Members and others that figures rest on; persons, where a pooled audit counts them."""
        if self.pooled is not None:
            return self.pooled.num_members, self.pooled.num_others
        return self.plan.evaluation.num_members, self.plan.evaluation.num_others

    @property
    def deciding(self) -> tuple[AttackReport, ...]:
        """The figures that the verdict rests on: of persons where there are any, else of images."""
        return self.attacks if self.persons is None else self.persons.attacks
