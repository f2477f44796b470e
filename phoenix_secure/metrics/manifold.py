"""Precision, recall, density and coverage: two sets of features as unions of balls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import euclidean_distances

__all__ = ["ManifoldScores", "manifold_scores"]

_BLOCK = 1024  # rows of a distance matrix held at once: 10,000 x 10,000 need 80 MB, not 800


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifoldScores:
    """Shares in [0, 1]; density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(
    generated: npt.NDArray[np.float64], reference: npt.NDArray[np.float64], *, nearest_k: int
) -> ManifoldScores:
    """The overlap of each set with the other's balls (radius: distance to the k-th neighbour).

    precision is the share of generated vectors in some reference ball, recall the share of
    reference vectors in some generated ball, density the number of reference balls around a
    generated vector divided by k, coverage the share of reference balls that hold a generated
    vector.

    Shape:      generated (N, D), reference (M, D); N, M > nearest_k >= 1.
    Guarantee:  a ball is open (distance < radius), as in the authors' package ``prdc``; distances
                are made block by block, so memory grows with N and not with N * M.
    Raises:     ValueError for nearest_k < 1 or too few vectors.
    Source:     Kynkaanniemi et al. (2019), eq. 1-2, arXiv:1904.06991; Naeem et al. (2020), eq. 4
                and 6, arXiv:2002.09797.
    """
    if nearest_k < 1 or min(len(generated), len(reference)) <= nearest_k:
        raise ValueError(
            f"expected nearest_k >= 1 and more vectors than that, got nearest_k={nearest_k}, "
            f"{len(generated)} and {len(reference)} vectors"
        )
    radii_generated = _radii(generated, nearest_k=nearest_k)
    radii_reference = _radii(reference, nearest_k=nearest_k)
    balls_around = np.zeros(len(generated), dtype=np.int64)
    num_recalled = num_covered = 0
    for start in range(0, len(reference), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = euclidean_distances(reference[block], generated)
        in_reference = distances < radii_reference[block, np.newaxis]
        balls_around += in_reference.sum(axis=0)
        num_covered += int(in_reference.any(axis=1).sum())
        num_recalled += int((distances < radii_generated).any(axis=1).sum())
    return ManifoldScores(
        precision=float((balls_around > 0).mean()),
        recall=num_recalled / len(reference),
        density=float(balls_around.mean() / nearest_k),
        coverage=num_covered / len(reference),
    )


def _radii(vectors: npt.NDArray[np.float64], *, nearest_k: int) -> npt.NDArray[np.float64]:
    """Distance of each vector to its k-th nearest other vector."""
    radii = np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(vectors)))
        distances = euclidean_distances(vectors[rows], vectors)
        distances[rows - start, rows] = 0.0  # exactly, so that itself is always the 0-th
        radii[rows] = np.partition(distances, nearest_k, axis=1)[:, nearest_k]
    return radii
