"""The denoiser under attack, and the two maps of a diffusion process that attacks need.

``alpha_bar[t] = prod_{s <= t} (1 - beta_s)`` with 0-based t, so ``alpha_bar[0] = 1 - beta_0``: the
clean image is one step below index 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.records import Images, Progress

__all__ = [
    "AlphaBar",
    "CommonNoise",
    "Denoiser",
    "batches",
    "check_alpha_bar",
    "check_timestep",
    "ddim",
    "power_norm",
    "predict_noise",
    "q_sample",
]

AlphaBar = NDArray[np.float64]
"""(T,), strictly between 0 and 1, strictly decreasing."""


class Denoiser(Protocol):
    """Predicts the noise in ``z``.

    Shape:      z (N, C, H, W) float32, t (N,) int64, result (N, C, H, W).
    """

    def __call__(self, z: Images, t: NDArray[np.int64], /) -> NDArray[np.floating]: ...


def check_alpha_bar(alpha_bar: ArrayLike) -> AlphaBar:
    """``alpha_bar`` as float64, or a ValueError that says what is wrong with the schedule."""
    values = np.asarray(alpha_bar, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"alpha_bar: expected shape (T,) with T >= 2, got {values.shape}")
    if not (np.isfinite(values).all() and (values > 0).all() and (values < 1).all()):
        raise ValueError("alpha_bar: expected every value strictly between 0 and 1")
    if not (np.diff(values) < 0).all():
        raise ValueError("alpha_bar: expected strictly decreasing values (0-based cumprod(1-beta))")
    return values


def check_timestep(t: int, *, alpha_bar: AlphaBar, interval: int | None = None) -> None:
    """Refuse a timestep outside the schedule, or off the grid 0, interval, 2 interval, ...

    Off the grid, published code goes on to index -1, -2, ..., which numpy and torch read from the
    noisy end of the schedule.
    """
    if not 0 <= t < len(alpha_bar):
        raise ValueError(f"expected 0 <= t < {len(alpha_bar)}, got t={t}")
    if interval is not None:
        if interval < 1:
            raise ValueError(f"expected interval >= 1, got {interval}")
        if t == 0 or t % interval:
            raise ValueError(f"expected t a positive multiple of interval={interval}, got t={t}")


def batches(num_records: int, *, batch_size: int, progress: Progress) -> Iterator[slice]:
    """Slices of at most ``batch_size`` records; ``progress`` hears of each that is finished."""
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}")
    for start in range(0, num_records, batch_size):
        stop = min(start + batch_size, num_records)
        yield slice(start, stop)
        progress(stop, num_records)


def predict_noise(eps: Denoiser, z: NDArray[np.floating], *, t: int) -> NDArray[np.float64]:
    """``eps(z, t)`` for one timestep, as float64.

    Raises:     ValueError when the denoiser returns another shape, NaN or infinity.
    """
    asked = np.ascontiguousarray(z, dtype=np.float32)
    answer = np.asarray(eps(asked, np.full(len(asked), t, dtype=np.int64)))
    if answer.shape != asked.shape:
        raise ValueError(f"denoiser: returned shape {answer.shape} for {asked.shape} at t={t}")
    if not np.isfinite(answer).all():
        raise ValueError(
            f"denoiser: returned NaN or infinity at t={t}; check the weights and the image range"
        )
    return answer.astype(np.float64)


def q_sample(
    x0: NDArray[np.floating], *, t: int, noise: NDArray[np.floating], alpha_bar: AlphaBar
) -> NDArray[np.float64]:
    """sqrt(abar_t) x0 + sqrt(1 - abar_t) noise (Ho et al. 2020, eq. 4)."""
    signal = np.sqrt(alpha_bar[t]) * x0.astype(np.float64)
    return np.asarray(signal + np.sqrt(1 - alpha_bar[t]) * noise, dtype=np.float64)


def ddim(
    z: NDArray[np.floating], *, eps: Denoiser, alpha_bar: AlphaBar, t: int, to: int
) -> NDArray[np.float64]:
    """One deterministic DDIM step from index ``t`` to index ``to``, up or down; one query.

    Source:     Song et al. (2021), eq. 12 with sigma = 0, arXiv:2010.02502.
    """
    noise = predict_noise(eps, z, t=t)
    x0 = (z - np.sqrt(1 - alpha_bar[t]) * noise) / np.sqrt(alpha_bar[t])
    moved = np.sqrt(alpha_bar[to]) * x0 + np.sqrt(1 - alpha_bar[to]) * noise
    return np.asarray(moved, dtype=np.float64)


def power_norm(v: NDArray[np.float64], *, p: float) -> NDArray[np.float64]:
    """sum |v|^p over all but the first axis (no root, as PIA and SimA are defined)."""
    if not p > 0:
        raise ValueError(f"expected p > 0, got {p}")
    return np.asarray((np.abs(v) ** p).sum(axis=tuple(range(1, v.ndim))), dtype=np.float64)


class CommonNoise:
    """Standard normal noise that every record, batch and model meets alike.

    Draw (a, b) depends on the generator's state at construction and on (a, b) only: neither on
    the batch size nor on how many records there are. Two models given generators in one state are
    compared on the same noise, which takes its variance out of their difference.
    """

    __slots__ = ("_seed", "_shape")

    def __init__(self, rng: np.random.Generator, *, shape: tuple[int, ...]) -> None:
        self._seed = [int(word) for word in rng.integers(0, 2**32, size=4)]
        self._shape = shape

    def draw(self, *key: int) -> NDArray[np.float64]:
        """The (C, H, W) noise with this key."""
        return np.random.default_rng([*self._seed, *key]).standard_normal(self._shape)
