"""Attacks that compare the target with shadow models: LiRA, its joint variant, RMIA."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attacks import denoising_loss, lira, rmia
from attacks.records import Images, Scores
from attacks.selection import choose
from attacks.shadows import ShadowSignals, log_loss_signal
from phoenix_secure.audit.attack import Access, timestep_at
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.audit.questions import ITS_CLASS, questions_of, score_by_class
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.shadows import Shadow
from phoenix_secure.rng import SeedTree

__all__ = ["SHADOW_ATTACKS", "score_shadow_attacks"]

SHADOW_ATTACKS = ("lira", "lira-joint", "rmia")


def score_shadow_attacks(
    names: Sequence[str],
    *,
    model: PipelineDenoiser,
    shadows: Sequence[Shadow],
    roles: Roles,
    profile: Profile,
    seeds: SeedTree,
) -> list[Scored]:
    """Scores on the evaluation group; the timestep of LiRA and RMIA is chosen on the shadows.

    Cost:       noise levels x noises queries per image and model.
    """
    started = time.perf_counter()
    bar = model.alpha_bar
    steps = sorted({max(1, timestep_at(bar, level=level)) for level in profile.noise_levels})
    population = roles.choice.records.take(~roles.choice.membership)
    x = roles.evaluation.records.and_then(population)
    # A class-conditional model is asked in every way; each way is further columns.
    questions = questions_of(model, labels=x.labels) or ("",)

    def losses_asked(of: PipelineDenoiser, part: Records, label: int) -> NDArray[np.float64]:
        return denoising_loss.losses(
            part.images,
            eps=of if label < 0 else of.asking(label),
            alpha_bar=bar,
            timesteps=steps,
            num_noises=profile.num_noises,
            rng=seeds.child("shadow-noise").numpy(),  # the same noise for every model
        )

    def losses(of: PipelineDenoiser) -> NDArray[np.float64]:
        ways = [x if question == ITS_CLASS else Records(images=x.images) for question in questions]
        asked = [score_by_class(way, lambda p, label: losses_asked(of, p, label)) for way in ways]
        return np.concatenate(asked, axis=1)

    num = len(roles.evaluation.images)
    target, each = losses(model), np.stack([losses(shadow.model) for shadow in shadows])
    inclusion = np.stack([shadow.inclusion for shadow in shadows])
    asked_at = [f"t={t}{q and f', {q}'}" for q in questions for t in steps]
    columns: dict[str, NDArray[np.intp]] = {
        name: np.array([k], dtype=np.intp) for k, name in enumerate(asked_at)
    }
    columns["mean of all"] = np.arange(len(asked_at), dtype=np.intp)
    chosen = choose(
        {name: -each[:, :num, index].mean(axis=2) for name, index in columns.items()},
        membership=inclusion,
        chosen_on=f"{len(shadows)} shadow models",
    )
    index = columns[chosen.setting]
    of_target, of_shadows = target[:, index].mean(axis=1), each[:, :, index].mean(axis=2)
    raw = ShadowSignals(signals=of_shadows[:, :num], inclusion=inclusion)
    logs = ShadowSignals(signals=log_loss_signal(of_shadows[:, :num]), inclusion=inclusion)
    found: dict[str, Scores] = {
        "lira": lira.score(log_loss_signal(of_target[:num]), shadows=logs),
        "rmia": rmia.score(
            of_target[:num],
            shadow_losses=raw,
            population_losses=of_target[num:],
            population_shadow_losses=of_shadows[:, num:],
            temperature=rmia.temperature_from_shadows(raw),
        ),
        "lira-joint": lira.score_joint(
            log_loss_signal(target[:num]),
            shadow_signals=log_loss_signal(each[:, :num]),
            inclusion=inclusion,
        ),
    }
    seconds = time.perf_counter() - started
    outside = ~roles.evaluation.membership
    nothing: Images = np.empty(0, np.float32)
    return [
        Scored(
            name=name,
            access=Access.SHADOWS,
            setting="all timesteps" if name == "lira-joint" else chosen.setting,
            sign=1,
            chosen_on=chosen.chosen_on,
            choice_aucs=chosen.aucs,
            choice_scores=nothing.astype(np.float64),
            scores=found[name],
            placebo_choice_scores=nothing.astype(np.float64),
            placebo_scores=found[name][outside],
            queries_per_record=float(len(asked_at) * profile.num_noises * (1 + len(shadows))),
            seconds=seconds / len(found),
        )
        for name in names
    ]
