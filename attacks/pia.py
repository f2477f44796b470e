"""PIA: on a member, the noise found in the clean image is found again in the noised one.

Source:     Kong et al. (2024), arXiv:2305.18355 (PIA; normalised: PIAN).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.denoiser import (
    Denoiser,
    batches,
    check_alpha_bar,
    check_timestep,
    power_norm,
    predict_noise,
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
    normalized: bool = False,
    p: float = 4,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Scores:
    """-sum |e0 - eps(q(x, t, e0), t)|^p with e0 = eps(x, 0).

    ``normalized`` first scales each record's e0 to mean |e0| = sqrt(2 / pi), that of a standard
    normal. A second published implementation uses sqrt(pi / 2), 1.57 times as large.

    Shape:      x (N, C, H, W); result (N,).
    Cost:       2 queries per record.
    Raises:     ValueError for bad images, schedule, timestep or answers, and for ``normalized``
                where the denoiser finds no noise at all.
    """
    images = check_images(x, name="x")
    schedule = check_alpha_bar(alpha_bar)
    check_timestep(t, alpha_bar=schedule)
    out = np.empty(len(images))
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        e0 = predict_noise(eps, images[rows], t=0)
        if normalized:
            size = np.abs(e0).mean(axis=(1, 2, 3), keepdims=True)
            if not (size > 0).all():
                raise ValueError("denoiser: predicts zero at t=0, which cannot be normalised")
            e0 = e0 * (np.sqrt(2 / np.pi) / size)
        z = q_sample(images[rows], t=t, noise=e0, alpha_bar=schedule)
        out[rows] = -power_norm(e0 - predict_noise(eps, z, t=t), p=p)
    return out
