"""ReDiffuse: the average of a member's variations is the member again.

Source:     Li et al. (2024), arXiv:2405.20771 (distance variant, no classifier).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.denoiser import (
    CommonNoise,
    Denoiser,
    batches,
    check_alpha_bar,
    check_timestep,
    ddim,
    q_sample,
)
from attacks.records import Progress, Scores, check_images, no_progress

__all__ = ["score"]


def score(
    x: ArrayLike,
    *,
    eps: Denoiser,
    alpha_bar: ArrayLike,
    t: int,
    interval: int,
    num_variations: int,
    rng: np.random.Generator,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Scores:
    """-||x - mean_i v_i||_2, v_i = DDIM(q(x, t, e_i), t -> t - k -> ... -> 0), k = ``interval``.

    Shape:      x (N, C, H, W); result (N,).
    Guarantee:  the noise e_i is common to all records (``CommonNoise``).
    Cost:       num_variations * t / interval queries per record.
    Raises:     ValueError when t is not a positive multiple of interval (published code then goes
                on to a negative index, that is to the noisy end), and for bad images or answers.
    """
    images = check_images(x, name="x")
    schedule = check_alpha_bar(alpha_bar)
    check_timestep(t, alpha_bar=schedule, interval=interval)
    if num_variations < 1:
        raise ValueError(f"expected num_variations >= 1, got {num_variations}")
    noise = CommonNoise(rng, shape=images.shape[1:])
    out = np.empty(len(images))
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        mean = np.zeros(images[rows].shape)
        for draw in range(num_variations):
            z = q_sample(images[rows], t=t, noise=noise.draw(draw), alpha_bar=schedule)
            for now in range(t, 0, -interval):
                z = ddim(z, eps=eps, alpha_bar=schedule, t=now, to=now - interval)
            mean += z / num_variations
        out[rows] = -np.sqrt(((images[rows] - mean) ** 2).sum(axis=(1, 2, 3)))
    return out
