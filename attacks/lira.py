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

__all__ = ["score", "score_offline"]

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
