"""RMIA: how many population records does a record beat in its gain from the target?

Source:     Zarifzadeh, Liu, Shokri (2024), arXiv:2312.03262. p(x | theta) = exp(-c loss) stands
            in for the likelihood, as the offline formula needs p in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from attacks.records import Scores
from attacks.shadows import ShadowSignals

__all__ = ["score", "score_offline", "temperature_from_shadows"]


def temperature_from_shadows(shadows: ShadowSignals) -> float:
    """c = 1 / (standard deviation of a record's loss over shadows), the scale that matters.

    Asks nothing of the target. ``shadows.signals`` are losses negated, or losses.
    """
    if len(shadows.signals) < 2:
        raise ValueError("expected at least 2 shadows")
    spread = float(np.sqrt(shadows.signals.var(axis=0, ddof=1).mean()))
    if spread == 0:
        raise ValueError("shadows agree exactly: they are copies of one another")
    return 1 / spread


def score(
    losses: ArrayLike,
    *,
    shadow_losses: ShadowSignals,
    population_losses: ArrayLike,
    population_shadow_losses: ArrayLike,
    temperature: float,
    gamma: float = 1.0,
) -> Scores:
    """Online: the share of population records z with ratio(x) / ratio(z) >= gamma.

    Equal shares are ordered by ratio(x), by less than one step of 1 / (Z + 1): with few z most
    members would tie at 1 and a low false-positive rate could not be reached.

    ratio(x) = p(x | target) / p(x), p(x) = (mean over IN + mean over OUT) / 2. No shadow trained
    on z, so that p(z) is the mean over all shadows.

    Shape:      losses (N,), shadow_losses.signals (S, N) *losses* (smaller = member),
                population_losses (Z,), population_shadow_losses (S, Z); result (N,) in [0, 1].
    Guarantee:  computed on logarithms: no loss is so large that p underflows to a tie.
    Raises:     ValueError for a record without IN and OUT shadow, negative losses, a constant that
                is not positive, or shapes that do not fit.
    """
    shadow_losses.require(num_in=1, num_out=1)
    log_p, log_shadow = _log_p(losses, shadow_losses=shadow_losses, temperature=temperature)
    of_in = _log_mean(log_shadow, mask=shadow_losses.inclusion)
    of_out = _log_mean(log_shadow, mask=~shadow_losses.inclusion)
    log_ratio = log_p - (np.logaddexp(of_in, of_out) - np.log(2))
    log_z, log_shadow_z = _population(
        population_losses,
        population_shadow_losses,
        num_shadows=len(log_shadow),
        temperature=temperature,
    )
    log_ratio_z = log_z - _log_mean(log_shadow_z, mask=np.ones_like(log_shadow_z, dtype=np.bool_))
    return _dominated(log_ratio, log_ratio_z, gamma=gamma)


def score_offline(
    losses: ArrayLike,
    *,
    shadow_losses: ShadowSignals,
    population_losses: ArrayLike,
    population_shadow_losses: ArrayLike,
    temperature: float,
    offline_a: float = 0.3,
    gamma: float = 1.0,
) -> Scores:
    """Offline, from OUT shadows alone: p(x) = ((1 + a) p_out(x) + (1 - a)) / 2, for z likewise.

    ``offline_a`` in [0, 1] is chosen on shadows (each in turn as the target), never on the target.
    """
    if not 0 <= offline_a <= 1:
        raise ValueError(f"expected 0 <= offline_a <= 1, got {offline_a}")
    shadow_losses.require(num_in=0, num_out=1)
    log_p, log_shadow = _log_p(losses, shadow_losses=shadow_losses, temperature=temperature)
    log_z, log_shadow_z = _population(
        population_losses,
        population_shadow_losses,
        num_shadows=len(log_shadow),
        temperature=temperature,
    )

    def marginal(log_out: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(((1 + offline_a) * np.exp(log_out) + (1 - offline_a)) / 2))

    everyone = np.ones_like(log_shadow_z, dtype=np.bool_)
    log_out = _log_mean(log_shadow, mask=~shadow_losses.inclusion)
    log_out_z = _log_mean(log_shadow_z, mask=everyone)
    if offline_a == 1:  # p = p_out; exp and log would only lose it to underflow
        return _dominated(log_p - log_out, log_z - log_out_z, gamma=gamma)
    return _dominated(log_p - marginal(log_out), log_z - marginal(log_out_z), gamma=gamma)


def _log_p(
    losses: ArrayLike, *, shadow_losses: ShadowSignals, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"expected temperature > 0, got {temperature}")
    values = shadow_losses.check_target(losses)
    if (values < 0).any() or (shadow_losses.signals < 0).any():
        raise ValueError("losses: expected values >= 0, larger = less likely (not negated signals)")
    return -temperature * values, -temperature * shadow_losses.signals


def _population(
    losses: ArrayLike, shadow_losses: ArrayLike, *, num_shadows: int, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, rows = np.asarray(losses, dtype=np.float64), np.asarray(shadow_losses, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or rows.shape != (num_shadows, len(values)):
        raise ValueError(
            f"population: expected (Z,) and ({num_shadows}, Z), got {values.shape}, {rows.shape}"
        )
    if not (np.isfinite(values).all() and np.isfinite(rows).all()):
        raise ValueError("population: contains NaN or infinity")
    if (values < 0).any() or (rows < 0).any():
        raise ValueError("population: expected losses >= 0")
    return -temperature * values, -temperature * rows


def _log_mean(log_values: NDArray[np.float64], *, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    summed = logsumexp(np.where(mask, log_values, -np.inf), axis=0)
    return np.asarray(summed - np.log(mask.sum(axis=0)), dtype=np.float64)


def _dominated(
    log_ratio: NDArray[np.float64],
    log_ratio_z: NDArray[np.float64],
    *,
    gamma: float,
) -> Scores:
    if not (np.isfinite(gamma) and gamma > 0):
        raise ValueError(f"expected gamma > 0, got {gamma}")
    counts = np.searchsorted(np.sort(log_ratio_z), log_ratio - np.log(gamma), side="right")
    within_step = 0.5 + np.arctan(log_ratio) / np.pi
    return np.asarray((counts + within_step) / (len(log_ratio_z) + 1), dtype=np.float64)
