"""Passive attacks on model updates: whose update points where this record's gradient does?

The same functions score a server that sees every site's update and one that secure aggregation
shows only the sum: for the latter, pass the rounds through ``summed``.

Source:     Li, Li, Ribeiro (2023), ICLR submission (cosine of gradient and update);
            Zhu et al. (2025), FedMIA, arXiv:2402.06289.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from attacks.denoiser import batches
from attacks.records import Images, Progress, Scores, check_images, no_progress

__all__ = ["ObservedRound", "cosines", "fedmia_score", "mean_cosine_score", "summed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedRound:
    """One round through the server's eyes.

    gradients:  x (N, C, H, W) -> (N, D) gradient of each record's loss at the model that was sent
                out, with noise that depends on the timestep only.
    updates:    (K, D) model after minus model before, one row per site (or one row, their sum).
    """

    gradients: Callable[[Images], NDArray[np.floating]]
    updates: NDArray[np.floating]

    def __post_init__(self) -> None:
        if self.updates.ndim != 2 or self.updates.size == 0:
            raise ValueError(f"updates: expected (K, D), got {self.updates.shape}")
        if not np.isfinite(self.updates).all():
            raise ValueError("updates: contain NaN or infinity")


def summed(rounds: Sequence[ObservedRound]) -> tuple[ObservedRound, ...]:
    """The same rounds as secure aggregation shows them: only the sum over sites."""
    return tuple(
        ObservedRound(
            gradients=observed.gradients,
            updates=observed.updates.sum(axis=0, keepdims=True, dtype=np.float64),
        )
        for observed in rounds
    )


def cosines(
    x: ArrayLike,
    *,
    rounds: Sequence[ObservedRound],
    batch_size: int = 32,
    progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """cos(gradient of the loss at x, minus the update), per round, record and update.

    Shape:      x (N, C, H, W); result (R, N, K), larger = the update lowers this record's loss.
                0 where a gradient or an update is the zero vector.
    Cost:       R gradients per record; memory batch_size x D.
    Raises:     ValueError for no rounds, unequal K or D, or gradients that are not finite.
    """
    images = check_images(x, name="x")
    if not rounds:
        raise ValueError("expected at least one observed round")
    if len({observed.updates.shape for observed in rounds}) > 1:
        raise ValueError("rounds: updates differ in shape; keep the sites that took part in all")
    out = np.zeros((len(rounds), len(images), len(rounds[0].updates)))
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        for r, observed in enumerate(rounds):
            gradient = np.asarray(observed.gradients(images[rows]), dtype=np.float64)
            if gradient.shape != (rows.stop - rows.start, observed.updates.shape[1]):
                raise ValueError(f"gradients: returned shape {gradient.shape}")
            if not np.isfinite(gradient).all():
                raise ValueError("gradients: returned NaN or infinity")
            out[r, rows] = _unit(gradient) @ -_unit(observed.updates.astype(np.float64)).T
    return out


def mean_cosine_score(cosine: NDArray[np.float64], *, site: int = 0) -> Scores:
    """The cosine with ``site``'s update averaged over rounds: (R, N, K) -> (N,)."""
    _check(cosine, site=site)
    return np.asarray(cosine[:, :, site].mean(axis=0), dtype=np.float64)


def fedmia_score(cosine: NDArray[np.float64], *, site: int) -> Scores:
    """mean over rounds of Phi((s_site - mean of others) / sd of others): (R, N, K) -> (N,).

    The other sites' updates are the "out" distribution, as they did not train on a record of this
    site.

    Raises:     ValueError for fewer than 3 sites, or others that agree exactly (one site's update
                copied): there is no distribution to compare with.
    """
    _check(cosine, site=site)
    others = np.delete(cosine, site, axis=2)
    if others.shape[2] < 2:
        raise ValueError(f"expected at least 3 sites' updates, got {cosine.shape[2]}")
    spread = others.std(axis=2, ddof=1)
    if not (spread > 0).all():
        raise ValueError("the other sites' updates agree exactly; FedMIA has nothing to compare")
    standardised = (cosine[:, :, site] - others.mean(axis=2)) / spread
    return np.asarray(ndtr(standardised).mean(axis=0), dtype=np.float64)


def _check(cosine: NDArray[np.float64], *, site: int) -> None:
    if cosine.ndim != 3 or cosine.size == 0:
        raise ValueError(f"cosine: expected (R, N, K), got {cosine.shape}")
    if not 0 <= site < cosine.shape[2]:
        raise ValueError(f"expected 0 <= site < {cosine.shape[2]}, got {site}")


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float64] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return units
