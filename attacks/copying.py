"""Data copying: are generated samples nearer to the training set than fresh data is?

Three screens of a whole sample set. None is a membership attack, and a clean result does not rule
one out (they look at typical samples, an attacker looks at the worst).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, rankdata
from sklearn.cluster import KMeans

from attacks.distances import k_nearest
from attacks.records import (
    Embedding,
    Progress,
    check_disjoint,
    check_images,
    embedded,
    no_progress,
)

__all__ = [
    "CloserShare",
    "DataCopying",
    "authenticity",
    "closer_share",
    "data_copying",
    "mann_whitney_z",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCopying:
    """Meehan's C_T: well below 0 (about -5 and less) is copying, well above 0 is underfitting.

    statistic:  None with ``reason`` where no cell can be tested.
    """

    statistic: float | None
    z_of_cells: tuple[float, ...]
    num_cells_tested: int
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CloserShare:
    """The share of samples nearer to the training set than to an equally large holdout.

    p_permutation:  one-sided, from exchanging training and holdout records: the one to rely on.
    p_binomial:     one-sided exact binomial, as commonly published. It holds train and holdout
                    fixed at exactly 1/2 and rejects far too often once there are many samples.
    share:          None with ``reason`` when every sample is equally near to both.
    """

    share: float | None
    num_compared: int
    p_permutation: float | None
    p_binomial: float | None
    reason: str | None = None


def mann_whitney_z(first: NDArray[np.float64], *, second: NDArray[np.float64]) -> float:
    """Standardised U = #{first > second} + ties / 2, with the variance corrected for ties.

    0 when all values are equal.
    """
    m, n = len(first), len(second)
    both = np.concatenate([first, second])
    u = rankdata(both)[:m].sum() - m * (m + 1) / 2
    _, counts = np.unique(both, return_counts=True)
    ties = float((counts.astype(np.float64) ** 3 - counts).sum())
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    return float((u - n * m / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def data_copying(
    train: ArrayLike,
    *,
    test: ArrayLike,
    samples: ArrayLike,
    num_cells: int,
    rng: np.random.Generator,
    embed: Embedding | None = None,
) -> DataCopying:
    """C_T = sum_c P(c) Z_U(c) / sum_c P(c) over the cells c that can be tested.

    Cells are k-means clusters of ``train``; Z_U compares distances to the nearest training record
    of samples (Q) and test records (P) inside a cell; P(c) is the share of test records there.
    A cell is tested when it holds at least 20 samples and 2 test records.

    Source:     Meehan, Chaudhuri, Dasgupta (2020), arXiv:2004.05675; the correction for
                ties and the rule for cells without test records are added here.
    Raises:     ValueError when train and test share records, or num_cells exceeds the records.
    """
    records = check_images(train, name="train")
    fresh = check_images(test, name="test", like=records)
    generated = check_images(samples, name="samples", like=records)
    check_disjoint(records, fresh, names=("train", "test"))
    t = embedded(records, embed=embed, name="train").astype(np.float64)
    p = embedded(fresh, embed=embed, name="test").astype(np.float64)
    q = embedded(generated, embed=embed, name="samples").astype(np.float64)
    if not 1 <= num_cells <= len(t):
        raise ValueError(f"expected 1 <= num_cells <= {len(t)}, got {num_cells}")
    cells = KMeans(num_cells, n_init=4, random_state=int(rng.integers(2**31))).fit(t)
    cell_p, cell_q = cells.predict(p), cells.predict(q)
    to_train_p = k_nearest(p, pool=t).distances[:, 0]
    to_train_q = k_nearest(q, pool=t).distances[:, 0]
    weights, z = [], []
    for cell in range(num_cells):
        in_p, in_q = cell_p == cell, cell_q == cell
        if in_q.sum() >= 20 and in_p.sum() >= 2:
            weights.append(in_p.mean())
            z.append(mann_whitney_z(to_train_q[in_q], second=to_train_p[in_p]))
    if not z:
        return DataCopying(
            statistic=None,
            z_of_cells=(),
            num_cells_tested=0,
            reason=f"no cell of {num_cells} holds 20 samples and 2 test records; use fewer cells",
        )
    return DataCopying(
        statistic=float(np.average(z, weights=weights)),
        z_of_cells=tuple(z),
        num_cells_tested=len(z),
    )


def authenticity(
    train: ArrayLike,
    *,
    samples: ArrayLike,
    embed: Embedding | None = None,
    progress: Progress = no_progress,
) -> float:
    """The share of samples farther from their nearest training record than that record's own
    nearest training neighbour is; near 0.5 or above is usual, near 0 is copying.

    Published code looks the record's neighbour up at the *sample's* index: it reports 0.155 where
    the definition gives 0.040, and fails when there are more samples than records.

    Source:     Alaa et al. (2022), arXiv:2102.08921.
    """
    records = check_images(train, name="train")
    generated = check_images(samples, name="samples", like=records)
    if len(records) < 2:
        raise ValueError("train: expected at least 2 records")
    t = embedded(records, embed=embed, name="train")
    q = embedded(generated, embed=embed, name="samples")
    within = k_nearest(t, pool=t, exclude_self=True).distances[:, 0]
    found = k_nearest(q, pool=t, progress=progress)
    return float((within[found.indices[:, 0]] < found.distances[:, 0]).mean())


def closer_share(
    train: ArrayLike,
    *,
    holdout: ArrayLike,
    samples: ArrayLike,
    rng: np.random.Generator,
    num_permutations: int = 9999,
    embed: Embedding | None = None,
) -> CloserShare:
    """Test whether more than half of the samples lie nearer to ``train`` than to ``holdout``.

    Guarantee:  p_permutation is valid when, under the null, the generator knew neither set: then
                "train" and "holdout" are names that may be exchanged. Samples equally near to both
                are left out.
    Raises:     ValueError when the two sets differ in size (the larger one is nearer by chance) or
                share records.
    """
    records = check_images(train, name="train")
    fresh = check_images(holdout, name="holdout", like=records)
    generated = check_images(samples, name="samples", like=records)
    check_disjoint(records, fresh, names=("train", "holdout"))
    if len(records) != len(fresh):
        raise ValueError(
            f"train has {len(records)} records and holdout {len(fresh)}; "
            "draw an equally large subset of the larger one"
        )
    if num_permutations < 99:
        raise ValueError(f"expected num_permutations >= 99, got {num_permutations}")
    q = embedded(generated, embed=embed, name="samples")
    to_train = k_nearest(q, pool=embedded(records, embed=embed, name="train"))
    to_holdout = k_nearest(q, pool=embedded(fresh, embed=embed, name="holdout"))
    nearer = to_train.distances[:, 0] < to_holdout.distances[:, 0]
    farther = to_train.distances[:, 0] > to_holdout.distances[:, 0]
    num_compared = int(nearer.sum() + farther.sum())
    if num_compared == 0:
        return CloserShare(
            share=None,
            num_compared=0,
            p_permutation=None,
            p_binomial=None,
            reason="every sample is equally near to train and holdout",
        )
    wins = np.concatenate(
        [
            np.bincount(to_train.indices[nearer, 0], minlength=len(records)),
            np.bincount(to_holdout.indices[farther, 0], minlength=len(fresh)),
        ]
    )
    observed = int(nearer.sum())
    as_extreme = sum(
        int(rng.permutation(wins)[: len(records)].sum()) >= observed
        for _ in range(num_permutations)
    )
    return CloserShare(
        share=observed / num_compared,
        num_compared=num_compared,
        p_permutation=(1 + as_extreme) / (1 + num_permutations),
        p_binomial=float(binomtest(observed, num_compared, 0.5, alternative="greater").pvalue),
    )
