"""One audit from its target to its report: plan first, then scores, then the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.statistics.blind import blind_baseline
from phoenix_secure.audit import details
from phoenix_secure.audit.advice import advice_on
from phoenix_secure.audit.attack import Attack
from phoenix_secure.audit.canaries import evaluate_canaries, load_canaries
from phoenix_secure.audit.choice import RunnableAttacks, choose_attacks
from phoenix_secure.audit.exposed import find_exposed
from phoenix_secure.audit.federated_view import federated_view, require_federated
from phoenix_secure.audit.figures import adjusted_together, attack_reports
from phoenix_secure.audit.games import play_games
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.member_copies import member_copies
from phoenix_secure.audit.persons import EvaluatedPersons
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.planning import plan_of
from phoenix_secure.audit.read_target import reading_facts, reading_of
from phoenix_secure.audit.report import AuditReport, CanaryReport
from phoenix_secure.audit.request import Request
from phoenix_secure.audit.roles import Roles, draw_roles
from phoenix_secure.audit.samples import samples_of
from phoenix_secure.audit.scoring import (
    Placebos,
    Scored,
    combined,
    quantile_calibrated,
    score_attack,
)
from phoenix_secure.audit.shadow_attacks import SHADOW_ATTACKS, score_shadow_attacks
from phoenix_secure.audit.shadows import train_shadows
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.units import Units, blind_report
from phoenix_secure.audit.verdict import decide
from phoenix_secure.audit.white_box import score_gsa
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.rng import SeedTree

__all__ = ["Findings", "Request", "run_audit"]

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The report, and what pictures need beside it."""

    report: AuditReport
    roles: Roles
    scored: tuple[Scored, ...]
    samples: NDArray[np.float32] | None
    images: AuditImages


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
    reading = reading_of(target, roles=roles, seeds=seeds)
    samples = samples_of(target, request, seeds=seeds, scale=reading.scale, progress=progress)
    planted = load_canaries(target)
    runnable = choose_attacks(
        target,
        request,
        roles=roles,
        samples=samples,
        scale=reading.scale,
        has_canaries=planted is not None,
        has_persons=persons is not None,
        seeds=seeds,
    )
    plan = plan_of(
        target,
        request,
        roles=roles,
        runnable=runnable,
        persons=persons,
        samples=samples,
        planted=planted,
    )
    other_plans = plan.write(out)
    planned(plan)
    placebos = Placebos.draw(roles, seeds=seeds)
    progress("blind baseline", 0, len(runnable.attacks) + 1)
    blind = blind_baseline(
        roles.evaluation.images,
        membership=roles.evaluation.membership,
        rng=seeds.child("blind").numpy(),
        confidence=plan.confidence,
        groups=None if persons is None else persons.of_image,
    )
    skipped = dict(runnable.skipped)
    scored = _scored(
        target,
        request,
        roles=roles,
        runnable=runnable,
        placebos=placebos,
        plan=plan,
        out=out,
        seeds=seeds,
        skipped=skipped,
        progress=progress,
    )
    games = play_games(
        target,
        request,
        runnable.games,
        roles=roles,
        samples=samples,
        scale=reading.scale,
        cache_dir=cache_dir or default_cache_dir(),
        seeds=seeds,
        progress=progress,
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
    reports = deciding = attack_reports(scored, units=units, plan=plan, also=games.p_values)
    rows, of_persons = scored, None
    if persons is not None:
        units = persons.units(blind, plan=plan)
        rows = persons.scored(scored, choice=roles.choice.membership)
        deciding = attack_reports(rows, units=units, plan=plan, also=games.p_values)
        of_persons = persons.report(deciding, rows, units=units, plan=plan)
    games = games.adjusted(adjusted_together(rows, units=units, also=games.p_values))
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
        verdict=decide(
            deciding,
            units=units,
            canaries=canaries,
            plan=plan,
            sets=games.set_tests,
            doubts=reading.doubts,
        ),
        game=details.game(plan, roles=roles),
        target={
            "kind": target.kind,
            **target.facts,
            "pixels read as": target.images.scale,
            **_column_facts(target),
            **reading_facts(target, reading),
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
        exposed=find_exposed(scored[best], images=target.images, roles=roles, samples=samples)
        if confidential
        else (),
        copying=details.copying(samples, target=target, roles=roles, seeds=seeds),
        canaries=canaries,
        federated=federated,
        dataset_inference=games.dataset_inference,
        extraction=games.extraction,
        inversion=games.inversion,
        persons=of_persons,
        copies=member_copies(target.images),
        seconds=time.perf_counter() - started,
    )
    report = report.model_copy(update={"advice": advice_on(report)})
    return Findings(
        report=report, roles=roles, scored=tuple(scored), samples=samples, images=target.images
    )


def _scored(
    target: Target,
    request: Request,
    *,
    roles: Roles,
    runnable: RunnableAttacks,
    placebos: Placebos,
    plan: AuditPlan,
    out: Path,
    seeds: SeedTree,
    skipped: dict[str, str],
    progress: Progress,
) -> list[Scored]:
    """Every attack that gives one score an image; ``skipped`` learns of what could not be made."""
    scored: list[Scored] = []
    total = len(runnable.attacks) + 1
    for number, attack in enumerate(runnable.attacks):
        progress(attack.name, number + 1, total)
        scored.append(score_attack(attack, roles=roles, placebos=placebos, model=target.model))
    scored += _derived(scored, runnable.attacks, request, roles, placebos, seeds, skipped)
    if not runnable.shadowed or target.model is None:
        return scored
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
    by_loss = tuple(name for name in runnable.shadowed if name in SHADOW_ATTACKS)
    if by_loss:
        scored += score_shadow_attacks(
            by_loss,
            model=target.model,
            shadows=shadows,
            roles=roles,
            profile=request.profile,
            seeds=seeds,
        )
    if "gsa" in runnable.shadowed:
        progress("gradients", 0, 1)
        scored.append(
            score_gsa(
                model=target.model,
                shadows=shadows,
                roles=roles,
                profile=request.profile,
                seeds=seeds,
            )
        )
    return scored


def _derived(
    scored: Sequence[Scored],
    attacks: Sequence[Attack],
    request: Request,
    roles: Roles,
    placebos: Placebos,
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


def _column_facts(target: Target) -> dict[str, str]:
    column = target.images.column
    return {} if column is None else {"groups of images": column.name}


def _mean_loss(loss: Scored, rows: NDArray[np.bool_]) -> float:
    return float(np.abs(loss.scores[rows]).mean())
