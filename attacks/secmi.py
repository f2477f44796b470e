"""SecMI: a member's deterministic trajectory comes back to where it was.

Source:     Duan et al. (2023), arXiv:2302.01316 (SecMI_stat).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.denoiser import Denoiser, batches, check_alpha_bar, check_timestep, ddim
from attacks.records import Progress, Scores, check_images, no_progress

__all__ = ["score"]


def score(
    x: ArrayLike,
    *,
    eps: Denoiser,
    alpha_bar: ArrayLike,
    t: int,
    interval: int,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Scores:
    """Minus the t-error ||z_t - DDIM(DDIM(z_t, t -> t + k), t + k -> t)||_2^2, k = ``interval``.

    z_t is reached from x by DDIM up 0 -> k -> 2k -> ... -> t, x standing for the state at index 0.
    The published code's "t_sec = 100, k = 10" stops at 90: it is t=90, interval=10 here.

    Shape:      x (N, C, H, W); result (N,).
    Cost:       t / interval + 2 queries per record (11 at t=90, interval=10).
    Raises:     ValueError when t is not a positive multiple of interval or t + interval leaves the
                schedule, and for bad images or answers.
    """
    images = check_images(x, name="x")
    schedule = check_alpha_bar(alpha_bar)
    check_timestep(t, alpha_bar=schedule, interval=interval)
    check_timestep(t + interval, alpha_bar=schedule)
    out = np.empty(len(images))
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        z = images[rows].astype(np.float64)
        for now in range(0, t, interval):
            z = ddim(z, eps=eps, alpha_bar=schedule, t=now, to=now + interval)
        up = ddim(z, eps=eps, alpha_bar=schedule, t=t, to=t + interval)
        back = ddim(up, eps=eps, alpha_bar=schedule, t=t + interval, to=t)
        out[rows] = -((z - back) ** 2).sum(axis=(1, 2, 3))
    return out
