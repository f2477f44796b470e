"""Runs one attack: choose its setting on the tuning split, score the evaluation group.

The placebo goes the same way from the start: non-members alone, half of them called members before
the attack begins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attacks import quantile
from attacks.records import Membership, Scores
from attacks.selection import Choice, choose
from attacks.statistics.auc import auc
from attacks.statistics.placebo import placebo_split
from phoenix_secure.audit.attack import Access, Attack
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.roles import Roles
from phoenix_secure.errors import CheckpointError
from phoenix_secure.rng import SeedTree

__all__ = ["Placebos", "Scored", "combined", "quantile_calibrated", "score_attack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One attack's scores on both groups, and on the placebo's.

    Shape:      choice_scores and scores are (N,), larger = member; the placebo's are of the
                non-members of either group, with the pseudo-membership of ``Placebos``.
    """

    name: str
    access: Access
    setting: str
    sign: int
    chosen_on: str
    choice_aucs: dict[str, float]
    choice_scores: Scores
    scores: Scores
    placebo_choice_scores: Scores
    placebo_scores: Scores
    queries_per_record: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Placebos:
    """Pseudo-members among the non-members of both groups, drawn before any attack."""

    choice: Membership
    evaluation: Membership

    @classmethod
    def draw(cls, roles: Roles, *, seeds: SeedTree) -> Placebos:
        """Half of each group's non-members."""
        rng = seeds.child("placebo").numpy()
        return cls(
            choice=placebo_split(int((~roles.choice.membership).sum()), rng=rng),
            evaluation=placebo_split(int((~roles.evaluation.membership).sum()), rng=rng),
        )


def score_attack(
    attack: Attack, *, roles: Roles, placebos: Placebos, model: PipelineDenoiser | None
) -> Scored:
    """Choose, then score. Raises CheckpointError when the model answers NaN."""
    started = time.perf_counter()
    chosen_on = f"{len(roles.choice.images)} other images, half of them members"
    outside = ~roles.evaluation.membership
    try:
        of_choice = attack.scores(roles.choice.records)
        choice = _choose(of_choice, membership=roles.choice.membership, chosen_on=chosen_on)
        before = 0 if model is None else model.num_queries
        raw = attack.score(roles.evaluation.records, choice.setting)
        queries = 0 if model is None else model.num_queries - before
        without = {name: values[~roles.choice.membership] for name, values in of_choice.items()}
        blind = _choose(without, membership=placebos.choice, chosen_on=chosen_on)
        again = raw[outside]
        if blind.setting != choice.setting:
            again = attack.score(roles.evaluation.records.take(outside), blind.setting)
    except ValueError as error:
        if "denoiser" in str(error):
            raise CheckpointError(f"{error}: the model cannot be audited") from error
        raise
    return Scored(
        name=attack.name,
        access=attack.access,
        setting=choice.setting,
        sign=choice.sign,
        chosen_on=chosen_on,
        choice_aucs=choice.aucs,
        choice_scores=choice.apply(of_choice[choice.setting]),
        scores=choice.apply(raw),
        placebo_choice_scores=blind.apply(without[blind.setting]),
        placebo_scores=blind.apply(again),
        queries_per_record=queries / len(roles.evaluation.images),
        seconds=time.perf_counter() - started,
    )


def combined(parts: Sequence[Scored], *, roles: Roles, placebos: Placebos) -> Scored:
    """A logistic regression on all attacks' scores, fitted on the tuning split.

    Source:     Dubiński et al. (2025), CDI, arXiv:2411.12858 (there for whole data sets).
    """
    started = time.perf_counter()
    train = np.stack([part.choice_scores for part in parts], axis=1)
    test = np.stack([part.scores for part in parts], axis=1)
    blind_train = np.stack([part.placebo_choice_scores for part in parts], axis=1)
    blind_test = np.stack([part.placebo_scores for part in parts], axis=1)
    fitted = _logistic(train, roles.choice.membership)
    blind = _logistic(blind_train, placebos.choice)
    of_choice = np.asarray(fitted.decision_function(train), dtype=np.float64)
    return Scored(
        name="combined",
        access=max((part.access for part in parts), key=list(Access).index),
        setting="logistic regression on " + ", ".join(part.name for part in parts),
        sign=1,
        chosen_on=parts[0].chosen_on,
        choice_aucs={},
        choice_scores=of_choice,
        scores=np.asarray(fitted.decision_function(test), dtype=np.float64),
        placebo_choice_scores=np.asarray(blind.decision_function(blind_train), dtype=np.float64),
        placebo_scores=np.asarray(blind.decision_function(blind_test), dtype=np.float64),
        queries_per_record=sum(part.queries_per_record for part in parts),
        seconds=time.perf_counter() - started,
    )


def quantile_calibrated(
    base: Scored, *, attack: Attack, roles: Roles, seeds: SeedTree
) -> Scored | None:
    """``base`` against what a non-member that looks alike would score; None below 100 of those."""
    public = roles.calibration
    if public is None or len(public.images) < 100:
        return None
    started = time.perf_counter()
    fitted = quantile.fit(
        public.images,
        scores=base.sign * attack.score(public, base.setting),
        rng=seeds.child("quantile").numpy(),
    )
    outside = ~roles.evaluation.membership
    scores = fitted.score(roles.evaluation.images, scores=base.scores)
    choice_scores = fitted.score(roles.choice.images, scores=base.choice_scores)
    return Scored(
        name=f"{base.name}-quantile",
        access=base.access,
        setting=f"{base.setting}, quantiles learnt on {len(public.images)} reference images",
        sign=base.sign,
        chosen_on=base.chosen_on,
        choice_aucs={},
        choice_scores=choice_scores,
        scores=scores,
        placebo_choice_scores=choice_scores[~roles.choice.membership],
        placebo_scores=scores[outside],
        queries_per_record=base.queries_per_record,
        seconds=base.seconds + time.perf_counter() - started,
    )


def _choose(scores: Mapping[str, Scores], *, membership: Membership, chosen_on: str) -> Choice[str]:
    """The best setting in the published direction, unless another is clearly the other way round.

    A sign taken from few records by its point estimate alone would be a coin toss for a weak
    attack; it is reversed only where the interval of the AUC lies below one half.
    """
    found = choose(scores, membership=membership, chosen_on=chosen_on)
    if found.sign == 1:
        return found
    if auc(scores[found.setting], membership=membership).interval.high < 0.5:
        return found
    best = max(found.aucs, key=lambda setting: found.aucs[setting])
    return Choice(setting=best, sign=1, aucs=found.aucs, chosen_on=chosen_on)


def _logistic(features: NDArray[np.float64], membership: Membership) -> LogisticRegression:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return model.fit(features, membership)
