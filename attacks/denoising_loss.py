"""The training loss of a record, averaged until it says something about the record.

Source:     Matsumoto et al. (2023), arXiv:2302.03262; Carlini et al. (2023), arXiv:2301.13188.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.denoiser import (
    CommonNoise,
    Denoiser,
    batches,
    check_alpha_bar,
    check_timestep,
    predict_noise,
    q_sample,
)
from attacks.records import Progress, Scores, check_images, no_progress

__all__ = ["losses", "score"]


def losses(
    x: ArrayLike,
    *,
    eps: Denoiser,
    alpha_bar: ArrayLike,
    timesteps: Sequence[int],
    num_noises: int,
    rng: np.random.Generator,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """mean over e and pixels of (eps(q(x, t, e), t) - e)^2, one column per timestep.

    Shape:      x (N, C, H, W); result (N, len(timesteps)).
    Guarantee:  the noise is the same for every record and every ``batch_size`` (``CommonNoise``).
    Cost:       len(timesteps) * num_noises queries per record.
    Raises:     ValueError for a bad image, schedule, timestep, or denoiser's answer.
    """
    images = check_images(x, name="x")
    schedule = check_alpha_bar(alpha_bar)
    if not len(timesteps) or num_noises < 1:
        raise ValueError("expected at least one timestep and num_noises >= 1")
    for t in timesteps:
        check_timestep(t, alpha_bar=schedule)
    noise = CommonNoise(rng, shape=images.shape[1:])
    out = np.zeros((len(images), len(timesteps)))
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        for column, t in enumerate(timesteps):
            for draw in range(num_noises):
                e = noise.draw(column, draw)
                z = q_sample(images[rows], t=t, noise=e, alpha_bar=schedule)
                error = predict_noise(eps, z, t=t) - e
                out[rows, column] += (error**2).mean(axis=(1, 2, 3))
    return out / num_noises


def score(
    x: ArrayLike,
    *,
    eps: Denoiser,
    alpha_bar: ArrayLike,
    timesteps: Sequence[int],
    num_noises: int,
    rng: np.random.Generator,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Scores:
    """Minus the mean of ``losses`` over timesteps; arguments, cost and errors as there."""
    per_timestep = losses(
        x,
        eps=eps,
        alpha_bar=alpha_bar,
        timesteps=timesteps,
        num_noises=num_noises,
        rng=rng,
        batch_size=batch_size,
        progress=progress,
    )
    return -np.asarray(per_timestep.mean(axis=1), dtype=np.float64)
