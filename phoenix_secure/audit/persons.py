"""Figures by person: what all images of one give away of her membership.

P-values and intervals of single images take them for independent. Several images of one person were
trained on together or not at all, so that ten people can look like a thousand records. Where the
set says whose each image is, persons are therefore the units of tests, intervals and the verdict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attacks.records import Membership, Scores
from attacks.statistics.auc import auc
from attacks.statistics.blind import BlindBaseline
from attacks.statistics.placebo import placebo_split
from attacks.statistics.strata import Stratum, by_group
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.plan import AuditPlan, PlannedPersons
from phoenix_secure.audit.report import AttackReport, PersonsReport, StratumReport
from phoenix_secure.audit.roles import Roles, TooFewImages
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.units import Units, blind_report, figure, low_fpr_of
from phoenix_secure.data.groups import majority
from phoenix_secure.data.persons import Persons
from phoenix_secure.rng import SeedTree

__all__ = ["EvaluatedPersons"]

_FEWEST = 4  # persons a side that anything at all can be computed on


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedPersons:
    """The persons of the evaluation group; members first.

    images      of each person, as places in the evaluation group
    placebo     pseudo-members among the persons who are none, drawn before any attack
    classes     of each person: that of most of her images; None where the set has none
    """

    images: tuple[NDArray[np.int64], ...]
    membership: Membership
    placebo: Membership
    classes: NDArray[np.str_] | None

    @classmethod
    def of(cls, images: AuditImages, roles: Roles, *, seeds: SeedTree) -> EvaluatedPersons | None:
        """None where the sets do not say whose their images are.

        Raises:     TooFewImages for fewer than four persons a side.
        """
        if images.members.groups is None or images.non_members.groups is None:
            return None
        inside = images.members.groups[roles.members]
        outside = images.non_members.groups[roles.non_members]
        members, others = list(Persons(inside)), list(Persons(outside))
        if min(len(members), len(others)) < _FEWEST:
            raise TooFewImages(
                f"the images are of {len(members)} members and {len(others)} non-members "
                f"(data.group): at least {_FEWEST} persons on each side are needed for any figure"
            )
        classes = None
        of_members, of_others = images.members.labels, images.non_members.labels
        if of_members is not None and of_others is not None:
            names = np.array(images.members.class_names)
            numbers = [
                majority(of_members[roles.members], inside),
                majority(of_others[roles.non_members], outside),
            ]
            classes = names[np.concatenate(numbers)]
        return cls(
            images=(*members, *(own + len(inside) for own in others)),
            membership=np.arange(len(members) + len(others)) < len(members),
            placebo=placebo_split(len(others), rng=seeds.child("placebo", "persons").numpy()),
            classes=classes,
        )

    @property
    def num_members(self) -> int:
        return int(self.membership.sum())

    @property
    def _differ_in_size(self) -> bool:
        return len({len(own) for own in self.images}) > 1

    @property
    def of_image(self) -> NDArray[np.int64]:
        """The person of each image of the evaluation group (N,)."""
        found = np.empty(sum(len(own) for own in self.images), np.int64)
        for number, own in enumerate(self.images):
            found[own] = number
        return found

    def planned(self, fprs: Sequence[float]) -> PlannedPersons:
        """What of them belongs into the plan."""
        num_others = len(self.membership) - self.num_members
        return PlannedPersons(
            aggregations=("mean", "ratio") if self._differ_in_size else ("mean",),
            num_members=self.num_members,
            num_others=num_others,
            low_fpr=low_fpr_of(fprs, num_others=num_others),
        )

    def units(self, blind: BlindBaseline, *, plan: AuditPlan) -> Units:
        """Persons as the units of figures; ``blind`` is of the images, its folds of whole persons.

        Raises:     ValueError for a plan without persons.
        """
        if plan.persons is None:
            raise ValueError("expected a plan with persons")
        return Units(
            one="person",
            many="persons",
            unit="group",
            membership=self.membership,
            placebo=self.placebo,
            blind=self._blind(blind, confidence=plan.confidence),
            low_fpr=plan.persons.low_fpr,
        )

    def scored(self, found: Sequence[Scored], *, choice: Membership) -> list[Scored]:
        """Every attack's scores by person: their mean, and the log likelihood ratio of them all
        (where persons differ in their number of images: else both rank alike).

        choice    membership in the tuning split, on which the ratio's middle is fitted
        """
        rows = []
        for one in found:
            rows.append(self._aggregated(one, name="mean", middle=None))
            if len(one.choice_scores) and self._differ_in_size:
                sides = [one.choice_scores[choice].mean(), one.choice_scores[~choice].mean()]
                middle = float(np.mean(sides))
                rows.append(self._aggregated(one, name="ratio", middle=middle))
        return rows

    def report(
        self,
        attacks: tuple[AttackReport, ...],
        scored: Sequence[Scored],
        *,
        units: Units,
        plan: AuditPlan,
    ) -> PersonsReport:
        """The part of the report that is about persons."""
        sizes = [len(own) for own in self.images]
        best = min(range(len(attacks)), key=lambda k: attacks[k].p_adjusted)
        return PersonsReport(
            num_members=self.num_members,
            num_non_members=len(sizes) - self.num_members,
            images_of_most=max(sizes),
            images_in_the_middle=float(np.median(sizes)),
            attacks=attacks,
            blind=blind_report(units.blind),
            strata=self._strata(scored[best], confidence=plan.confidence),
        )

    def _aggregated(self, one: Scored, *, name: str, middle: float | None) -> Scored:
        scores = np.array([_together(one.scores[own], middle) for own in self.images])
        first = len(one.scores) - len(one.placebo_scores)
        again = [
            _together(one.placebo_scores[own - first], middle)
            for own in self.images[self.num_members :]
        ]
        return dataclasses.replace(
            one, name=f"{one.name}, {name}", scores=scores, placebo_scores=np.array(again)
        )

    def _blind(self, blind: BlindBaseline, *, confidence: float) -> BlindBaseline:
        if blind.scores is None:
            return blind
        scores = np.array([blind.scores[own].mean() for own in self.images])
        found = auc(scores, membership=self.membership, confidence=confidence)
        # As wide as for images, whose folds share their training records just so.
        wide = auc(scores, membership=self.membership, confidence=1 - (1 - confidence) / 5)
        return BlindBaseline(auc=found, scores=scores, differs=wide.interval.low > 0.5)

    def _strata(self, one: Scored, *, confidence: float) -> tuple[StratumReport, ...]:
        if self.classes is None:
            return ()
        strata = by_group(
            one.scores, membership=self.membership, groups=self.classes, confidence=confidence
        )
        return tuple(_row(stratum) for stratum in strata)


def _together(scores: Scores, middle: float | None) -> float:
    """One person's score: the mean, or the sum of what each image is above ``middle``.

    Where scores of members and of others are normal with one variance, the sum is the logarithm of
    the likelihood ratio of all her images, but for a factor that is the same for everybody.
    """
    return float(scores.mean() if middle is None else (scores - middle).sum())


def _row(found: Stratum) -> StratumReport:
    return StratumReport(
        kind="class",
        group=str(found.group),
        num_members=found.num_members,
        num_non_members=found.num_non_members,
        auc=None if found.auc is None else figure(found.auc.value, found.auc.interval),
        reason=found.reason,
    )
