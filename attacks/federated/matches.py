"""Do reconstructions match the members, or as well the images that nobody trained on?

A reconstruction always resembles *something*. Each member has a partner of the same kind that was
not used; were the reconstructions made without the members, exchanging the two could not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attacks.federated.inversion import psnr

__all__ = ["Matches", "match"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """best, best_control: (R,) PSNR in dB of the nearest candidate and of the nearest partner.

    p_value:    of "exchanging members with their partners leaves as good a match", by permutation.
    """

    best: NDArray[np.float64]
    best_control: NDArray[np.float64]
    p_value: float

    def recovered(self, *, threshold_db: float = 30.0) -> tuple[int, int]:
        """Reconstructions nearer than ``threshold_db`` to a member, and to a partner."""
        return (
            int((self.best >= threshold_db).sum()),
            int((self.best_control >= threshold_db).sum()),
        )


def match(
    reconstructions: ArrayLike,
    *,
    members: ArrayLike,
    partners: ArrayLike,
    candidates: ArrayLike,
    rng: np.random.Generator,
    num_permutations: int = 999,
) -> Matches:
    """Compare each reconstruction with its candidate members and with their partners.

    Shape:      reconstructions (R, C, H, W) in [-1, 1]; members and partners (M, C, H, W), pair by
                pair; candidates (R, M) bool, the pairs whose member reconstruction r may be of.
    Guarantee:  where each member and its partner are exchangeable given the reconstructions, the
                p-value is at most a with a chance of at most a, however the reconstructions depend
                on one another.
    Raises:     ValueError for other shapes, or a reconstruction without candidates.
    """
    made = np.asarray(reconstructions, dtype=np.float64)
    ours, theirs = np.asarray(members, np.float64), np.asarray(partners, np.float64)
    allowed = np.asarray(candidates)
    if made.ndim != 4 or ours.shape != theirs.shape or ours.shape[1:] != made.shape[1:]:
        raise ValueError(
            f"expected images of one shape, got {made.shape}, {ours.shape} and {theirs.shape}"
        )
    if allowed.shape != (len(made), len(ours)) or allowed.dtype != np.bool_:
        raise ValueError(f"candidates: expected ({len(made)}, {len(ours)}) booleans")
    if not allowed.any(axis=1).all():
        raise ValueError("candidates: a reconstruction has none")
    pairs = np.stack([_quality(made, ours), _quality(made, theirs)])
    pairs = np.where(allowed, pairs, -np.inf)

    def advantage(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float((first.max(axis=1) - second.max(axis=1)).mean())

    observed = advantage(pairs[0], pairs[1])
    as_good = 0
    for _ in range(num_permutations):
        swapped = rng.random(len(ours)) < 0.5
        first = np.where(swapped, pairs[1], pairs[0])
        second = np.where(swapped, pairs[0], pairs[1])
        as_good += advantage(first, second) >= observed
    return Matches(
        best=pairs[0].max(axis=1),
        best_control=pairs[1].max(axis=1),
        p_value=(1 + as_good) / (1 + num_permutations),
    )


def _quality(made: NDArray[np.float64], images: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, M) PSNR; capped, so that an exact copy has a finite one."""
    return np.array([[min(psnr(one, truth=image), 200.0) for image in images] for one in made])
