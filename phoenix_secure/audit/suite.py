"""One audit from its target to its report: plan first, then scores, then the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.records import Images
from attacks.statistics.blind import blind_baseline
from phoenix_secure.audit import details
from phoenix_secure.audit.attack import (
    AskedModel,
    Attack,
    own_attacks,
    query_attacks,
    sample_attacks,
)
from phoenix_secure.audit.canaries import evaluate_canaries, load_canaries
from phoenix_secure.audit.federated_view import federated_view, require_federated
from phoenix_secure.audit.persons import EvaluatedPersons
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.planning import DERIVED, plan_of
from phoenix_secure.audit.questions import PixelScale, ask_every_way, find_scale
from phoenix_secure.audit.report import AuditReport, CanaryReport
from phoenix_secure.audit.request import Request
from phoenix_secure.audit.roles import Roles, draw_roles
from phoenix_secure.audit.scoring import (
    Placebos,
    Scored,
    combined,
    quantile_calibrated,
    score_attack,
)
from phoenix_secure.audit.shadow_attacks import SHADOW_ATTACKS, score_shadow_attacks
from phoenix_secure.audit.shadows import shadow_obstacle, train_shadows
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.units import Units, blind_report
from phoenix_secure.audit.verdict import attack_reports, decide
from phoenix_secure.config import SamplingConfig
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.sampling import sample_images
from phoenix_secure.errors import CheckpointError, ConfigError, TrainingError
from phoenix_secure.release.generator import sample_generated
from phoenix_secure.rng import SeedTree
from phoenix_secure.workers import workers

__all__ = ["Findings", "Request", "run_audit"]

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The report, and what pictures need beside it."""

    report: AuditReport
    roles: Roles
    scored: tuple[Scored, ...]
    samples: NDArray[np.float32] | None


def run_audit(
    target: Target,
    request: Request,
    *,
    out: Path,
    cache_dir: Path | None = None,
    progress: Progress = lambda what, k, n: None,
    planned: Callable[[AuditPlan], object] = lambda plan: None,
) -> Findings:
    """Audit ``target``; ``out`` and ``planned`` get the plan before any score is computed.

    Raises:     ConfigError, DataError or CheckpointError naming what to change.
    """
    started = time.perf_counter()
    if request.federated:
        require_federated(target)
    seeds = SeedTree(request.seed).child("audit")
    roles = draw_roles(target.images, profile=request.profile, seeds=seeds)
    persons = EvaluatedPersons.of(target.images, roles, seeds=seeds)
    scale = PixelScale.SIGNED
    if target.model is not None and target.run is None:
        rng = seeds.child("scale").numpy()
        scale = find_scale(target.model, roles.choice.records, rng=rng)
    samples = _samples(target, request, seeds=seeds, scale=scale, progress=progress)
    planted = load_canaries(target)
    attacks, skipped = _attacks(
        target, request, roles=roles, samples=samples, scale=scale, seeds=seeds
    )
    shadowed = tuple(n for n in request.names if n in SHADOW_ATTACKS and n not in skipped)
    plan = plan_of(
        target,
        request,
        roles=roles,
        attacks=attacks,
        shadowed=shadowed,
        persons=persons,
        samples=samples,
        planted=planted,
    )
    other_plans = plan.write(out)
    planned(plan)
    placebos = Placebos.draw(roles, seeds=seeds)
    progress("blind baseline", 0, len(attacks) + 1)
    blind = blind_baseline(
        roles.evaluation.images,
        membership=roles.evaluation.membership,
        rng=seeds.child("blind").numpy(),
        confidence=plan.confidence,
        groups=None if persons is None else persons.of_image,
    )
    scored: list[Scored] = []
    for number, attack in enumerate(attacks):
        progress(attack.name, number + 1, len(attacks) + 1)
        scored.append(score_attack(attack, roles=roles, placebos=placebos, model=target.model))
    scored += _derived(scored, attacks, request, roles, placebos, seeds=seeds, skipped=skipped)
    if shadowed and target.model is not None:
        shadows = train_shadows(
            target,
            roles=roles,
            plan=plan,
            folder=out / "shadows",
            seeds=seeds,
            device=target.model.device,
            progress=progress,
        )
        progress("shadow attacks", 0, 1)
        scored += score_shadow_attacks(
            shadowed,
            model=target.model,
            shadows=shadows,
            roles=roles,
            profile=request.profile,
            seeds=seeds,
        )
    units = Units(
        one="image",
        many="images",
        unit="record",
        membership=roles.evaluation.membership,
        placebo=placebos.evaluation,
        blind=blind,
        low_fpr=plan.low_fpr,
    )
    reports = deciding = attack_reports(scored, units=units, plan=plan)
    of_persons = None
    if persons is not None:
        units = persons.units(blind, plan=plan)
        rows = persons.scored(scored, choice=roles.choice.membership)
        deciding = attack_reports(rows, units=units, plan=plan)
        of_persons = persons.report(deciding, rows, units=units, plan=plan)
    canaries: CanaryReport | None = None
    if planted is not None and target.model is not None:
        canaries = evaluate_canaries(planted, model=target.model, plan=plan, seeds=seeds)
    federated = None
    if request.federated:
        federated = federated_view(
            target, cache_dir=cache_dir or default_cache_dir(), seeds=seeds, progress=progress
        )
    best = min(range(len(reports)), key=lambda k: reports[k].p_adjusted)
    confidential = request.edition == "confidential"
    losses = next((one for one in scored if one.name == "loss"), None)
    members = roles.evaluation.membership
    report = AuditReport(
        edition=request.edition,
        verdict=decide(deciding, units=units, canaries=canaries, plan=plan),
        game=details.game(plan, roles=roles),
        target={
            "kind": target.kind,
            **target.facts,
            "pixels read as": target.images.scale,
            **_scale_fact(target, scale),
        },
        plan=plan,
        plan_sha256=plan.sha256,
        other_plans=other_plans,
        choice_source=roles.choice_source,
        attacks=reports,
        skipped=skipped,
        blind=blind_report(blind),
        loss_of_members=None if losses is None else _mean_loss(losses, members),
        loss_of_non_members=None if losses is None else _mean_loss(losses, ~members),
        strata=details.strata(
            scored[best], target=target, roles=roles, plan=plan, with_sites=confidential
        ),
        exposed=details.exposed(scored[best], roles=roles) if confidential else (),
        copying=details.copying(samples, target=target, roles=roles, seeds=seeds),
        canaries=canaries,
        federated=federated,
        persons=of_persons,
        seconds=time.perf_counter() - started,
    )
    return Findings(report=report, roles=roles, scored=tuple(scored), samples=samples)


def _samples(
    target: Target,
    request: Request,
    *,
    seeds: SeedTree,
    scale: PixelScale,
    progress: Progress,
) -> Images | None:
    """The samples under attack: the target's own, or as many as the profile samples."""
    if target.samples is not None:
        return target.samples
    wanted = {"nearest", "nearest-calibrated", "monte-carlo", "domias"}
    if not wanted & set(request.names):
        return None
    profile = request.profile
    progress("sampling images", 0, 1)
    if target.generator is not None:
        return sample_generated(
            target.generator,
            num_images=profile.num_samples,
            generator=seeds.child("samples").torch(),
        )
    sampling = target.sampling or SamplingConfig()
    limit = int(target.pipeline.scheduler.config.num_train_timesteps)
    steps = min(profile.sampling_steps, limit)
    sampling = sampling.model_copy(update={"num_steps": steps})
    labels = None
    if target.model is not None and target.model.null_label is not None:
        labels = torch.arange(profile.num_samples) % target.model.null_label
    try:
        with workers(num_cores()):
            drawn = sample_images(
                target.pipeline,
                num_images=profile.num_samples,
                sampling=sampling,
                generator=seeds.child("samples").torch(),
                class_labels=labels,
            )
    except TrainingError as error:  # of a model that is finished, and often somebody else's
        raise CheckpointError(
            "the model samples NaN or infinity, so that it cannot be audited: check its scheduler, "
            "its time embedding and its weights"
        ) from error
    return np.asarray(np.clip(scale.undo(drawn), -1, 1), dtype=np.float32)


def _scale_fact(target: Target, scale: PixelScale) -> dict[str, str]:
    """Of a model that others trained: what its pixels were found to be."""
    if target.model is None or target.run is not None:
        return {}
    return {"pixel scale": f"{scale}, by how well the model denoises the tuning split on it"}


def _attacks(
    target: Target,
    request: Request,
    *,
    roles: Roles,
    samples: Images | None,
    scale: PixelScale,
    seeds: SeedTree,
) -> tuple[list[Attack], dict[str, str]]:
    """The attacks that can be run here, and why the others of the profile cannot."""
    possible: list[Attack] = []
    if samples is not None:
        possible += sample_attacks(
            samples, calibration=None if roles.calibration is None else roles.calibration.images
        )
    if target.model is not None:
        own = [name for name in request.names if name not in request.profile.attacks]

        def made(asked: AskedModel) -> tuple[Attack, ...]:
            return (
                *query_attacks(asked, profile=request.profile, seeds=seeds),
                *own_attacks(own, asked, profile=request.profile, seeds=seeds),
            )

        labels = roles.labels
        possible += ask_every_way(made, target.model, labels=labels, scale=scale)
    by_name = {attack.name: attack for attack in possible}
    skipped = {}
    for name in request.names:
        if name in by_name or name in DERIVED:
            continue
        if name in ("nearest-calibrated", "domias"):
            skipped[name] = "needs 40 reference images that are neither members nor non-members"
        elif name in SHADOW_ATTACKS:
            obstacle = shadow_obstacle(target, roles=roles)
            if obstacle is not None:
                skipped[name] = obstacle
        elif target.model is None:
            what = "a folder of samples" if target.generator is None else "a release's generator"
            skipped[name] = f"needs a denoiser, and the target is {what}"
    chosen = [by_name[name] for name in request.names if name in by_name]
    if not chosen and not any(n in SHADOW_ATTACKS and n not in skipped for n in request.names):
        reasons = "; ".join(f"{name} {why}" for name, why in skipped.items())
        raise ConfigError(f"none of the attacks asked for can be run: {reasons or 'choose others'}")
    return chosen, skipped


def _derived(
    scored: Sequence[Scored],
    attacks: Sequence[Attack],
    request: Request,
    roles: Roles,
    placebos: Placebos,
    *,
    seeds: SeedTree,
    skipped: dict[str, str],
) -> list[Scored]:
    """Attacks made of the others' scores."""
    found: list[Scored] = []
    by_name = {attack.name: attack for attack in attacks}
    if "loss-quantile" in request.names and "loss" in by_name:
        base = next(one for one in scored if one.name == "loss")
        calibrated = quantile_calibrated(base, attack=by_name["loss"], roles=roles, seeds=seeds)
        if calibrated is None:
            skipped["loss-quantile"] = "needs 100 reference images beside those of the tuning split"
        else:
            found.append(calibrated)
    if "combined" in request.names:
        if len(scored) + len(found) > 1 and len(roles.choice.images) >= 40:
            found.append(combined([*scored, *found], roles=roles, placebos=placebos))
        else:
            skipped["combined"] = "needs two attacks and 40 images to choose on"
    return found


def _mean_loss(loss: Scored, rows: NDArray[np.bool_]) -> float:
    return float(np.abs(loss.scores[rows]).mean())
