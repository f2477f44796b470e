"""The attacks of a pooled audit: fixed settings and directions, one score an image.

Nothing is chosen on images: a choice at one site would be of its images, and one for all sites
would need another sum. Both attacks are means over pixels, so that their bins are known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attacks import denoising_loss, pia
from attacks.records import Scores
from phoenix_secure.audit.attack import AskedModel, timestep_at
from phoenix_secure.audit.pooled.bins import LogBins
from phoenix_secure.audit.records import Records
from phoenix_secure.rng import SeedTree

__all__ = ["POOLED", "PooledAttack", "asked_timesteps"]

# Values of alpha_bar: about t = 100, 200 and 300 of Ho's linear schedule.
_LOSS_LEVELS, _NUM_NOISES = (0.9, 0.65, 0.4), 3
_PIA_LEVEL = 0.65


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledAttack:
    """An attack whose scores are minus a mean over pixels.

    levels    of alpha_bar at which the model is asked
    queries   of the model for each image
    score     (records, model, seeds) -> (N,), larger = member
    """

    name: str
    levels: tuple[float, ...]
    queries: int
    bins: LogBins
    score: Callable[[Records, AskedModel, SeedTree], Scores]

    @property
    def setting(self) -> str:
        """In words."""
        return "alpha_bar=" + ",".join(f"{level:g}" for level in self.levels)


def asked_timesteps(model: AskedModel, levels: tuple[float, ...]) -> list[int]:
    """The timesteps of ``levels`` in the model's schedule."""
    return sorted({max(1, timestep_at(model.alpha_bar, level=level)) for level in levels})


def _loss(x: Records, model: AskedModel, seeds: SeedTree) -> Scores:
    return denoising_loss.score(
        x.images,
        eps=model,
        alpha_bar=model.alpha_bar,
        timesteps=asked_timesteps(model, _LOSS_LEVELS),
        num_noises=_NUM_NOISES,
        rng=seeds.child("loss").numpy(),  # the same noise at every site
    )


def _pia(x: Records, model: AskedModel, seeds: SeedTree) -> Scores:
    (t,) = asked_timesteps(model, (_PIA_LEVEL,))
    sums = pia.score(x.images, eps=model, alpha_bar=model.alpha_bar, t=t)
    return sums / float(np.prod(x.images.shape[1:]))


POOLED = (
    PooledAttack(
        name="loss",
        levels=_LOSS_LEVELS,
        queries=len(_LOSS_LEVELS) * _NUM_NOISES,
        bins=LogBins(low=-14.0, high=4.0),
        score=_loss,
    ),
    PooledAttack(
        name="pia",
        levels=(_PIA_LEVEL,),
        queries=2,
        bins=LogBins(low=-40.0, high=8.0),  # of fourth powers
        score=_pia,
    ),
)
