"""Descriptions of attacks for the audit, and the attacks on released samples and on queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attacks import denoising_loss, domias, monte_carlo, nearest, pia, rediffuse, secmi, sima
from attacks.records import Images, Scores
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.audit.records import Records
from phoenix_secure.errors import DataError
from phoenix_secure.extensions import ExtensionPoint, extension
from phoenix_secure.rng import SeedTree

__all__ = [
    "Access",
    "AskedModel",
    "Attack",
    "on_grid",
    "own_attacks",
    "query_attacks",
    "sample_attacks",
    "timestep_at",
]

_COMPONENTS = 8  # of DOMIAS' densities
_INTERVALS = 4  # DDIM steps from 0 to SecMI's t
_VARIATION_STEPS = 2


class Access(StrEnum):
    """The attacker's access, from the weakest to the strongest."""

    SAMPLES = "released samples"
    QUERIES = "denoiser queries"
    CHECKPOINTS = "denoiser queries of every kept checkpoint"
    SHADOWS = "shadow models"
    WHITE_BOX = "weights and shadow models"


class AskedModel(Protocol):
    """The callable eps(z, t) of one model and one question, with its schedule."""

    @property
    def alpha_bar(self) -> NDArray[np.float64]: ...

    def __call__(self, z: Images, t: NDArray[np.int64], /) -> Images: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """An attack with the settings it may be run at.

    score:      (records, one of ``settings``) -> (N,), larger = member as published; the same noise
                for every call.
    score_all:  all settings at once, where that is cheaper than one by one.
    """

    name: str
    access: Access
    settings: tuple[str, ...]
    score: Callable[[Records, str], Scores]
    score_all: Callable[[Records], dict[str, Scores]] | None = None

    def scores(self, x: Records) -> dict[str, Scores]:
        """Every setting's scores."""
        if self.score_all is not None:
            return self.score_all(x)
        return {setting: self.score(x, setting) for setting in self.settings}


def timestep_at(alpha_bar: NDArray[np.float64], *, level: float) -> int:
    """The first timestep at which alpha_bar is no larger than ``level``."""
    below = np.flatnonzero(alpha_bar <= level)
    return int(below[0]) if len(below) else len(alpha_bar) - 1


def query_attacks(model: AskedModel, *, profile: Profile, seeds: SeedTree) -> tuple[Attack, ...]:
    """Attacks that ask the denoiser, at timesteps of the profile's noise levels."""
    bar = model.alpha_bar
    steps = [max(1, timestep_at(bar, level=level)) for level in profile.noise_levels]
    steps = sorted(set(steps))
    by_name = {f"t={t}": t for t in steps}
    settings = tuple(by_name)

    def rng(name: str) -> np.random.Generator:
        return seeds.child("attack", name).numpy()  # afresh, so that every call meets one noise

    def secmi_score(x: Records, setting: str) -> Scores:
        t, interval = on_grid(by_name[setting], parts=_INTERVALS, limit=len(bar))
        return secmi.score(x.images, eps=model, alpha_bar=bar, t=t, interval=interval)

    def rediffuse_score(x: Records, setting: str) -> Scores:
        t, interval = on_grid(by_name[setting], parts=_VARIATION_STEPS, limit=len(bar))
        return rediffuse.score(
            x.images,
            eps=model,
            alpha_bar=bar,
            t=t,
            interval=interval,
            num_variations=max(2, profile.num_noises),
            rng=rng("rediffuse"),
        )

    return (
        _loss_attack(model, steps=steps, num_noises=profile.num_noises, seeds=seeds),
        Attack(
            name="sima",
            access=Access.QUERIES,
            settings=settings,
            score=lambda x, s: sima.score(x.images, eps=model, t=by_name[s]),
        ),
        Attack(
            name="pia",
            access=Access.QUERIES,
            settings=settings,
            score=lambda x, s: pia.score(x.images, eps=model, alpha_bar=bar, t=by_name[s]),
        ),
        Attack(
            name="pian",
            access=Access.QUERIES,
            settings=settings,
            score=lambda x, s: pia.score(
                x.images, eps=model, alpha_bar=bar, t=by_name[s], normalized=True
            ),
        ),
        Attack(name="secmi", access=Access.QUERIES, settings=settings, score=secmi_score),
        Attack(name="rediffuse", access=Access.QUERIES, settings=settings, score=rediffuse_score),
    )


def own_attacks(
    names: Sequence[str], model: AskedModel, *, profile: Profile, seeds: SeedTree
) -> tuple[Attack, ...]:
    """Installed attacks, at the timesteps of the profile's noise levels.

    Raises:     ConfigError for a name that nothing answers to; DataError, while scoring, for
                scores that are not one finite number an image.
    """
    bar = model.alpha_bar
    steps = sorted({max(1, timestep_at(bar, level=level)) for level in profile.noise_levels})

    def eps(z: Images, t: int | NDArray[np.int64]) -> Images:
        return model(z, np.full(len(z), t, np.int64) if np.ndim(t) == 0 else np.asarray(t))

    def attack(name: str) -> Attack:
        own = extension(ExtensionPoint.ATTACK, name)

        def score(x: Records, setting: str) -> Scores:
            rng = seeds.child("attack", name).numpy()
            found = own(x.images, eps=eps, alpha_bar=bar, t=int(setting[2:]), rng=rng)
            scores = np.asarray(found, np.float64)
            if scores.shape != (len(x.images),) or not np.isfinite(scores).all():
                raise DataError(
                    f"the attack {name} must give one finite score for each of {len(x.images)} "
                    f"images, and gave shape {scores.shape}"
                )
            return scores

        return Attack(
            name=name,
            access=Access.QUERIES,
            settings=tuple(f"t={t}" for t in steps),
            score=score,
        )

    return tuple(attack(name) for name in names)


def sample_attacks(samples: Images, *, calibration: Images | None) -> tuple[Attack, ...]:
    """Attacks that hold nothing but released images (and reference images, where there are any)."""
    found = [
        Attack(
            name="nearest",
            access=Access.SAMPLES,
            settings=("1 neighbour", "5 neighbours"),
            score=lambda x, s: nearest.score(x.images, samples=samples, num_neighbours=int(s[0])),
        ),
        Attack(
            name="monte-carlo",
            access=Access.SAMPLES,
            settings=("radius 5 %", "radius 20 %", "radius 50 %"),
            score=lambda x, s: monte_carlo.score(
                x.images,
                samples=samples,
                radius=_radius(x.images, samples, quantile=int(s[7:-2]) / 100),
            ),
        ),
    ]
    if calibration is not None and len(calibration) >= 5 * _COMPONENTS:
        reference = calibration
        found += [
            Attack(
                name="nearest-calibrated",
                access=Access.SAMPLES,
                settings=("1 neighbour", "5 neighbours"),
                score=lambda x, s: nearest.score(
                    x.images, samples=samples, reference=reference, num_neighbours=int(s[0])
                ),
            ),
            Attack(
                name="domias",
                access=Access.SAMPLES,
                settings=("4 components", f"{_COMPONENTS} components"),
                score=lambda x, s: domias.score(
                    x.images, samples=samples, reference=reference, num_components=int(s[0])
                ),
            ),
        ]
    return tuple(found)


def _loss_attack(
    model: AskedModel, *, steps: Sequence[int], num_noises: int, seeds: SeedTree
) -> Attack:
    """Each timestep's loss alone, and the mean of all; the noise is that of the timestep."""
    everything = "mean of t=" + ",".join(map(str, steps))

    def column(x: Records, t: int) -> Scores:
        return denoising_loss.score(
            x.images,
            eps=model,
            alpha_bar=model.alpha_bar,
            timesteps=[t],
            num_noises=num_noises,
            rng=seeds.child("attack", "loss", t).numpy(),
        )

    def score_all(x: Records) -> dict[str, Scores]:
        columns = {f"t={t}": column(x, t) for t in steps}
        return columns | {everything: np.mean(list(columns.values()), axis=0)}

    def score(x: Records, setting: str) -> Scores:
        if setting == everything:
            return score_all(x)[setting]
        return column(x, int(setting[2:]))

    return Attack(
        name="loss",
        access=Access.QUERIES,
        settings=(*(f"t={t}" for t in steps), everything),
        score=score,
        score_all=score_all,
    )


def on_grid(t: int, *, parts: int, limit: int) -> tuple[int, int]:
    """``t`` moved to a positive multiple of an interval of about t / parts, t + interval inside."""
    interval = max(1, round(t / parts))
    while interval * (parts + 1) >= limit and interval > 1:
        interval -= 1
    return max(1, min(parts, (limit - 1) // interval - 1)) * interval, interval


def _radius(x: Images, samples: Images, *, quantile: float) -> float:
    return monte_carlo.median_radius(x, samples=samples, quantile=quantile)
