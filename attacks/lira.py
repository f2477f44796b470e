"""LiRA: compare a record's signal with what models trained with and without it give.

Source:     Carlini et al. (2022), Alg. 1, arXiv:2112.03570; on diffusion models Carlini et al.
            (2023), arXiv:2301.13188.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from attacks.records import Scores
from attacks.shadows import ShadowSignals

__all__ = ["score", "score_joint", "score_offline"]

_OWN_VARIANCE_FROM = 64  # shadows, from which on a record's own variance is a better estimate


def score(signal: ArrayLike, *, shadows: ShadowSignals, own_variance: bool | None = None) -> Scores:
    """Online: log N(s; mu_in, sd_in) - log N(s; mu_out, sd_out).

    signal:     (N,) of the target, such as ``shadows.log_loss_signal`` of a well averaged loss.
    own_variance:  each record's own sd instead of one pooled over records; by default from 64
                shadows on.
    Guarantee:  the pooled sd is that *around each record's own mean* with its degrees of freedom;
                the overall spread, met in published code, mixes in how records differ.
    Raises:     ValueError for a record without 2 IN and 2 OUT shadows (1 and 1 when pooled), and
                where all shadows agree exactly.
    """
    values = shadows.check_target(signal)
    own = _own(shadows, own_variance)
    shadows.require(num_in=2 if own else 1, num_out=2 if own else 1)
    mean_in, sd_in = _moments(shadows.signals, mask=shadows.inclusion, own=own)
    mean_out, sd_out = _moments(shadows.signals, mask=~shadows.inclusion, own=own)
    ratio = norm.logpdf(values, mean_in, sd_in) - norm.logpdf(values, mean_out, sd_out)
    return np.asarray(ratio, dtype=np.float64)


def score_offline(
    signal: ArrayLike, *, shadows: ShadowSignals, own_variance: bool | None = None
) -> Scores:
    """Offline, from OUT shadows alone: (s - mu_out) / sd_out.

    A monotone transform of the paper's 1 - Pr[N(mu_out, sd_out) > s] that does not saturate at 1.
    """
    values = shadows.check_target(signal)
    own = _own(shadows, own_variance)
    shadows.require(num_in=0, num_out=2 if own else 1)
    mean, sd = _moments(shadows.signals, mask=~shadows.inclusion, own=own)
    return np.asarray((values - mean) / sd, dtype=np.float64)


def score_joint(
    signals: ArrayLike, *, shadow_signals: ArrayLike, inclusion: NDArray[np.bool_]
) -> Scores:
    """Online, from several signals at once and few shadows: a linear discriminant.

    Each record has its own level, taken from all of its shadows; the step from OUT to IN and the
    covariance C around the level are common to all records: (s - level - step / 2) C^-1 step.
    With 8 shadows a record's own two means are mostly noise, which this does not estimate.

    Shape:      signals (N, Q) of the target, such as ``log_loss_signal`` of ``losses`` at Q
                timesteps; shadow_signals (S, N, Q), inclusion (S, N); result (N,).
    Raises:     ValueError for shapes that do not fit, a record without IN or OUT shadow, one pair
                only, or signals that are copies of one another.
    Source:     this package's variant of LiRA (Fisher 1936 on its residuals); measured beside it
                in docs/attacks.md.
    """
    values = np.asarray(signals, dtype=np.float64)
    rows = np.asarray(shadow_signals, dtype=np.float64)
    if values.ndim != 2 or rows.ndim != 3 or rows.shape[1:] != values.shape or not rows.size:
        raise ValueError(f"expected (N, Q) and (S, N, Q), got {values.shape} and {rows.shape}")
    if not np.isfinite(values).all():
        raise ValueError("signals: contain NaN or infinity")
    layers = [
        ShadowSignals(signals=rows[:, :, q], inclusion=inclusion) for q in range(rows.shape[2])
    ]
    layers[0].require(num_in=1, num_out=1)
    flags = inclusion[:, :, None]
    num_in, num_out = flags.sum(axis=0), (~flags).sum(axis=0)
    mean_in = np.where(flags, rows, 0.0).sum(axis=0) / num_in
    mean_out = np.where(flags, 0.0, rows).sum(axis=0) / num_out
    step = (mean_in - mean_out).mean(axis=0)
    level = (num_in * (mean_in - step) + num_out * mean_out) / (num_in + num_out)
    residuals = (rows - np.where(flags, mean_in, mean_out)).reshape(-1, values.shape[1])
    freedom = int((num_in + num_out - 2).sum())
    if freedom < 1:
        raise ValueError("one shadow per record and side leaves no variance; train more pairs")
    covariance = residuals.T @ residuals / freedom
    scale = np.sqrt(np.diag(covariance))
    if (scale == 0).any() or np.linalg.cond(covariance / np.outer(scale, scale)) > 1e10:
        raise ValueError("signals: some repeat others exactly, or shadows agree exactly on them")
    weights = np.linalg.solve(covariance, step)
    return np.asarray((values - level - step / 2) @ weights, dtype=np.float64)


def _own(shadows: ShadowSignals, own_variance: bool | None) -> bool:
    return len(shadows.signals) >= _OWN_VARIANCE_FROM if own_variance is None else own_variance


def _moments(
    signals: NDArray[np.float64], *, mask: NDArray[np.bool_], own: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counts = mask.sum(axis=0)
    mean = np.where(mask, signals, 0.0).sum(axis=0) / counts
    squares = (np.where(mask, signals - mean, 0.0) ** 2).sum(axis=0)
    if own:
        variance = squares / (counts - 1)
    else:
        freedom = int((counts - 1).sum())
        if freedom < 1:
            raise ValueError("one shadow per record and side leaves no variance; train more pairs")
        variance = np.full(len(counts), squares.sum() / freedom)
    if not (variance > 0).all():
        raise ValueError("shadows agree exactly on a record: they are copies of one another")
    return mean, np.sqrt(variance)
