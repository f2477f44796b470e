"""SimA: the predicted noise is small where the model has seen the image.

Source:     Rao, Qu, Moyer (2025), arXiv:2509.25003 (fourth power of their norm).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from attacks.denoiser import Denoiser, batches, power_norm, predict_noise
from attacks.records import Progress, Scores, check_images, no_progress

__all__ = ["score"]


def score(
    x: ArrayLike,
    *,
    eps: Denoiser,
    t: int,
    p: float = 4,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Scores:
    """-sum |eps(x, t)|^p on the *clean* image, not scaled by sqrt(abar_t).

    The published figures take the best t on the target itself; choose it with ``selection`` on
    shadows instead.

    Shape:      x (N, C, H, W); result (N,).
    Cost:       1 query per record.
    Raises:     ValueError for t < 0, bad images or answers.
    """
    images = check_images(x, name="x")
    if t < 0:
        raise ValueError(f"expected t >= 0, got {t}")
    out = np.empty(len(images))
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        out[rows] = -power_norm(predict_noise(eps, images[rows], t=t), p=p)
    return out
