"""Monte Carlo attack: more generated samples fall near a member than near a non-member.

Source:     Hilprecht, Härterich, Bernau (2019), PoPETs 2019(4), arXiv:1906.03006.

As published, MC-epsilon takes few values and is 0 for every record with an empty ball, and MC-d
sums -log d, which changes sign with the unit of d. Both are kept in order here and made usable at
a low false-positive rate: log d is taken in units of the radius, and empty balls are ordered by
their nearest sample.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import ArrayLike

from attacks.distances import distance_blocks, k_nearest
from attacks.records import (
    Embedding,
    Progress,
    Scores,
    check_images,
    check_scores,
    embedded,
    no_progress,
)

__all__ = ["Statistic", "median_radius", "score", "set_score"]

_SMALLEST = 1e-12  # a distance in units of the radius: keeps an exact copy's log finite


class Statistic(Enum):
    """The quantity summed over the ball."""

    COUNT = "MC-epsilon"
    LOG_DISTANCE = "MC-d"


def median_radius(
    x: ArrayLike,
    *,
    samples: ArrayLike,
    quantile: float = 0.5,
    embed: Embedding | None = None,
    progress: Progress = no_progress,
) -> float:
    """The paper's heuristic: the median over candidates of the distance to the nearest sample.

    It looks at the candidates, not at who is a member. Raises ValueError where it would be 0.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"expected 0 < quantile <= 1, got {quantile}")
    candidates = check_images(x, name="x")
    generated = check_images(samples, name="samples", like=candidates)
    nearest = k_nearest(
        embedded(candidates, embed=embed, name="x"),
        pool=embedded(generated, embed=embed, name="samples"),
        progress=progress,
    ).distances[:, 0]
    radius = float(np.quantile(nearest, quantile))
    if radius == 0:
        raise ValueError("radius is 0: samples hold exact copies of the candidates")
    return radius


def score(
    x: ArrayLike,
    *,
    samples: ArrayLike,
    radius: float,
    statistic: Statistic = Statistic.LOG_DISTANCE,
    embed: Embedding | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """The Monte Carlo estimate of the generator's mass around each record.

    With n samples g and r_g = d(x, g) / radius, over the ball r_g < 1:
    COUNT is (1/n) (#ball + 1 / (1 + min r)), so that the added term never reorders two counts;
    LOG_DISTANCE is (1/n) sum_ball -log r_g, or (1/n) (-log min r) <= 0 for an empty ball.

    Shape:      (N, C, H, W) each, (N,) out.
    Units:      radius is an L2 distance in pixels or in the embedding.
    Raises:     ValueError for radius <= 0 and for inputs as in ``nearest.score``.
    """
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"expected radius > 0, got {radius}")
    candidates = check_images(x, name="x")
    generated = check_images(samples, name="samples", like=candidates)
    queries = embedded(candidates, embed=embed, name="x")
    pool = embedded(generated, embed=embed, name="samples")
    total = np.zeros(len(queries))
    closest = np.full(len(queries), np.inf)
    for rows, distances in distance_blocks(queries, pool=pool, progress=progress):
        scaled = np.maximum(distances / radius, _SMALLEST)
        inside = scaled < 1
        closest[rows] = np.minimum(closest[rows], scaled.min(axis=1))
        match statistic:
            case Statistic.COUNT:
                total[rows] += inside.sum(axis=1)
            case Statistic.LOG_DISTANCE:
                total[rows] -= np.where(inside, np.log(scaled), 0.0).sum(axis=1)
    match statistic:
        case Statistic.COUNT:
            total += 1 / (1 + closest)
        case Statistic.LOG_DISTANCE:
            total = np.where(closest < 1, total, -np.log(closest))
    return total / len(pool)


def set_score(scores: ArrayLike, *, owners: ArrayLike) -> dict[int | str, float]:
    """Set membership: the mean score of each owner's records, larger = their records were used."""
    values = check_scores(scores)
    names = np.asarray(owners)
    if names.shape != values.shape:
        raise ValueError(f"owners: expected shape {values.shape}, got {names.shape}")
    return {owner.item(): float(values[names == owner].mean()) for owner in np.unique(names)}
