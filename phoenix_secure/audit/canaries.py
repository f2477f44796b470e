"""The one-run game on canaries that a run planted: a lower bound on epsilon against the claim.

Source:     Steinke et al. (2023), arXiv:2305.08846; Mahloujifar et al. (2024), arXiv:2410.22235.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attacks import denoising_loss
from attacks.epsilon.canaries import draw_inclusion
from attacks.epsilon.guesses import GuessPlan
from attacks.epsilon.lower_bound import (
    EpsilonLowerBound,
    Method,
    check_claim,
    epsilon_lower_bound,
)
from attacks.epsilon.trade_off import approximate_dp
from attacks.records import Scores
from attacks.statistics.auc import auc
from phoenix_secure.audit.attack import timestep_at
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.plan import AuditPlan, Claim, PlannedCanaries
from phoenix_secure.audit.questions import score_by_class
from phoenix_secure.audit.records import Labels, Records
from phoenix_secure.audit.report import CanaryReport
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.units import figure
from phoenix_secure.data.canaries import read_canaries
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.errors import DataError
from phoenix_secure.rng import SeedTree

__all__ = ["Canaries", "evaluate_canaries", "load_canaries", "plan_canaries"]

# The loss at these values of alpha_bar, averaged: fixed here and not chosen, since a canary is
# unlike the images of a tuning split.
_LEVELS = (0.97, 0.85, 0.55)
_NUM_NOISES = 8
_DELTA = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Canaries:
    """images (m, C, H, W) float32 in [-1, 1]; inclusion (m,) bool, fair coins; labels (m,) the
    classes they were trained under."""

    images: NDArray[np.float32]
    labels: Labels
    inclusion: NDArray[np.bool_]


def load_canaries(target: Target) -> Canaries | None:
    """The canaries of a run, or None where it planted none.

    Raises:     DataError for a damaged file, canaries of another shape, or a run that planted
                canaries and lost their file.
    """
    if target.run is None or target.config is None or target.config.audit.canaries == 0:
        return None
    found = read_canaries(target.run.path / "canaries.npz")
    classes = None if target.model is None else target.model.num_classes
    known = classes is None or ((found.labels >= 0) & (found.labels < classes)).all()
    if (
        found.images.shape[1:] != target.images.shape
        or len(found.images) != target.config.audit.canaries
        or not known
    ):
        raise DataError("canaries.npz does not fit the run's settings: restore the run folder")
    return Canaries(
        images=to_unit_range(found.images), labels=found.labels, inclusion=found.inclusion
    )


def plan_canaries(canaries: Canaries, *, claim: Claim | None) -> PlannedCanaries:
    """Guess on a twentieth, an eighth, or a quarter of the canaries on each side."""
    m = len(canaries.images)
    digest = hashlib.sha256(np.ascontiguousarray(canaries.images, "<f4").data)
    digest.update(canaries.inclusion.tobytes())
    return PlannedCanaries(
        num_canaries=m,
        sha256=digest.hexdigest(),
        guesses_each_side=tuple(sorted({max(1, m // 20), max(1, m // 8), max(1, m // 4)})),
        delta=_DELTA if claim is None else claim.delta,
    )


def evaluate_canaries(
    canaries: Canaries, *, model: PipelineDenoiser, plan: AuditPlan, seeds: SeedTree
) -> CanaryReport:
    """Play the planned guesses and bound epsilon from below.

    A class-conditional model is asked for each canary's class, under which it was trained on it.

    Guarantee:  a true record-level claim is contradicted with probability at most
                ``plan.significance``.
    """
    if plan.canaries is None:
        raise ValueError("the plan has no canaries")
    delta = plan.canaries.delta
    started, before = time.perf_counter(), model.num_queries
    steps = sorted({max(1, timestep_at(model.alpha_bar, level=level)) for level in _LEVELS})

    def score(part: Records, label: int) -> Scores:
        return denoising_loss.score(
            part.images,
            eps=model if label < 0 else model.asking(label),
            alpha_bar=model.alpha_bar,
            timesteps=steps,
            num_noises=_NUM_NOISES,
            rng=seeds.child("canaries", "noise").numpy(),
        )

    labels = None if model.num_classes is None else canaries.labels
    scores = score_by_class(Records(images=canaries.images, labels=labels), score)
    plans = [GuessPlan(num_included=r, num_left_out=r) for r in plan.canaries.guesses_each_side]
    queries = (model.num_queries - before) / len(scores)

    def bounded(inclusion: NDArray[np.bool_], method: Method) -> EpsilonLowerBound:
        return epsilon_lower_bound(
            scores,
            inclusion=inclusion,
            plans=plans,
            delta=delta,
            rng=seeds.child("canaries", "ties").numpy(),
            method=method,
            significance=plan.significance,
        )

    again = draw_inclusion(len(scores), rng=seeds.child("canaries", "placebo").numpy())
    try:
        bounds = {method: bounded(canaries.inclusion, method) for method in Method}
        placebo = bounded(again, Method.STEINKE)
        area = auc(scores, membership=canaries.inclusion, confidence=plan.confidence)
    except ValueError as error:
        raise DataError(f"canaries.npz cannot be evaluated: {error}") from error
    answer: Literal["no claim", "contradicted", "not contradicted", "cannot be contradicted"]
    answer = "no claim"
    # Each is a person of its own, whose presence a guarantee per person covers as well.
    if plan.claim is not None and plan.claim.unit in ("record", "group"):
        test = check_claim(
            scores,
            inclusion=canaries.inclusion,
            plans=plans,
            trade_off=approximate_dp(plan.claim.epsilon, delta=plan.claim.delta),
            rng=seeds.child("canaries", "ties").numpy(),
            significance=plan.significance,
        )
        answer = "not contradicted"
        if test.contradicted:
            answer = "contradicted"
        elif not test.can_contradict:
            answer = "cannot be contradicted"
    steinke, gaussian = bounds[Method.STEINKE], bounds[Method.GAUSSIAN_F_DP]
    return CanaryReport(
        num_canaries=len(scores),
        num_included=int(canaries.inclusion.sum()),
        auc=figure(area.value, area.interval),
        delta=plan.canaries.delta,
        epsilon_steinke=steinke.value,
        ceiling_steinke=steinke.ceiling,
        epsilon_gaussian=gaussian.value,
        ceiling_gaussian=gaussian.ceiling,
        claimed_epsilon=None if plan.claim is None else plan.claim.epsilon,
        claim=answer,
        placebo_epsilon=placebo.value,
        queries_per_record=queries,
        seconds=time.perf_counter() - started,
    )
