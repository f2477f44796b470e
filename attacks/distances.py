"""Euclidean nearest neighbours in blocks of bounded memory.

Squared distances come from one matrix product in float64; those of the neighbours finally chosen
are computed again from the difference itself, because |a|^2 - 2ab + |b|^2 cancels for near copies,
which are exactly the pairs that an attack is after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attacks.records import Progress, no_progress

__all__ = ["Neighbours", "distance_blocks", "k_nearest"]

_BLOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The k nearest of a pool, nearest first.

    Shape:      distances (N, k) float64, indices (N, k) int64 into the pool.
    """

    distances: NDArray[np.float64]
    indices: NDArray[np.int64]


def k_nearest(
    x: NDArray[np.floating],
    *,
    pool: NDArray[np.floating],
    k: int = 1,
    exclude_self: bool = False,
    progress: Progress = no_progress,
) -> Neighbours:
    """The ``k`` vectors of ``pool`` nearest to each row of ``x`` in the L2 norm.

    Shape:      x (N, D), pool (M, D).
    exclude_self:  ``x`` is ``pool``: row i is not its own neighbour (an equal row at another index
                still is).
    Cost:       N x M x D multiplications; memory is bounded by blocks of about 64 MiB.
    Raises:     ValueError for different D, or fewer than ``k`` candidates.
    """
    available = len(pool) - int(exclude_self)
    if k < 1 or available < k:
        raise ValueError(f"expected 1 <= k <= {available} records to choose from, got k={k}")
    if exclude_self and x is not pool:
        raise ValueError("exclude_self: x must be the pool itself")
    best_distance = np.full((len(x), k), np.inf)
    best_index = np.zeros((len(x), k), dtype=np.int64)
    for rows, columns, squared in _squared_blocks(x, pool=pool, progress=progress):
        if exclude_self:
            own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
            squared[own - rows.start, own - columns.start] = np.inf
        merged = np.concatenate([best_distance[rows], squared], axis=1)
        indices = np.concatenate(
            [
                best_index[rows],
                np.broadcast_to(np.arange(columns.start, columns.stop), squared.shape),
            ],
            axis=1,
        )
        chosen = np.argpartition(merged, k - 1, axis=1)[:, :k]
        best_distance[rows] = np.take_along_axis(merged, chosen, axis=1)
        best_index[rows] = np.take_along_axis(indices, chosen, axis=1)
    exact = np.empty_like(best_distance)
    for column in range(k):
        exact[:, column] = _paired(x, pool=pool, indices=best_index[:, column])
    order = np.argsort(exact, axis=1, kind="stable")
    return Neighbours(
        distances=np.take_along_axis(exact, order, axis=1),
        indices=np.take_along_axis(best_index, order, axis=1),
    )


def distance_blocks(
    x: NDArray[np.floating], *, pool: NDArray[np.floating], progress: Progress = no_progress
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """L2 distances (rows of x, slice of pool) block by block, each with its slice of rows.

    Error:      about 1e-8 times the vectors' norm for near copies (see the module's text).
    """
    for rows, _, squared in _squared_blocks(x, pool=pool, progress=progress):
        yield rows, np.sqrt(squared, out=squared)


def _squared_blocks(
    x: NDArray[np.floating], *, pool: NDArray[np.floating], progress: Progress
) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
    if x.ndim != 2 or pool.ndim != 2 or x.shape[1] != pool.shape[1]:
        raise ValueError(f"expected vectors of one length, got shapes {x.shape} and {pool.shape}")
    width = x.shape[1]
    num_rows = max(1, min(len(x), 1024, _BLOCK_BYTES // (8 * width)))
    num_columns = max(1, min(len(pool), _BLOCK_BYTES // (8 * max(num_rows, width))))
    # The mean leaves distances alone and takes the largest part of the cancellation away.
    centre = pool[: 4 * num_columns].mean(axis=0, dtype=np.float64)
    for start in range(0, len(x), num_rows):
        rows = slice(start, min(start + num_rows, len(x)))
        a = x[rows].astype(np.float64) - centre
        a_squared = np.einsum("nd,nd->n", a, a)[:, None]
        for first in range(0, len(pool), num_columns):
            columns = slice(first, min(first + num_columns, len(pool)))
            b = pool[columns].astype(np.float64) - centre
            squared = a @ b.T
            squared *= -2.0
            squared += a_squared
            squared += np.einsum("nd,nd->n", b, b)[None, :]
            yield rows, columns, np.maximum(squared, 0.0, out=squared)
        progress(rows.stop, len(x))


def _paired(
    x: NDArray[np.floating], *, pool: NDArray[np.floating], indices: NDArray[np.int64]
) -> NDArray[np.float64]:
    out = np.empty(len(x))
    step = max(1, _BLOCK_BYTES // (8 * x.shape[1]))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        out[rows] = np.linalg.norm(x[rows].astype(np.float64) - pool[indices[rows]], axis=1)
    return out
