"""GSA: gradient norms, tensor by tensor, betray a member to an attacker with the weights.

Source:     Pang, Wang, Kang, Huai, Zhang (2023), arXiv:2308.06405 (GSA1, GSA2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from attacks.denoiser import batches
from attacks.records import Images, Progress, Scores, check_images, no_progress

__all__ = ["GradientNorms", "GsaClassifier", "equidistant", "features_gsa1", "features_gsa2", "fit"]


class GradientNorms(Protocol):
    """The L2 norm, per parameter tensor, of the gradient of *one record's* loss averaged over
    ``timesteps``; the noise must depend on the timestep only (common random numbers).

    Shape:      x (N, C, H, W), result (N, number of tensors).
    """

    def __call__(self, x: Images, timesteps: Sequence[int], /) -> NDArray[np.floating]: ...


def equidistant(num_timesteps: int, *, num_steps: int) -> tuple[int, ...]:
    """The K equally spaced timesteps of the paper: 99, 199, ..., 999 for T = 1000, K = 10."""
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"expected 1 <= num_steps <= {num_timesteps}, got {num_steps}")
    return tuple((i + 1) * num_timesteps // num_steps - 1 for i in range(num_steps))


def features_gsa1(
    x: ArrayLike,
    *,
    gradient_norms: GradientNorms,
    timesteps: Sequence[int],
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """(N, P) norms of the gradient of the mean loss: one backward pass over all timesteps."""
    images = check_images(x, name="x")
    parts = [
        _checked(gradient_norms(images[rows], timesteps), num_records=rows.stop - rows.start)
        for rows in batches(len(images), batch_size=batch_size, progress=progress)
    ]
    return np.concatenate(parts)


def features_gsa2(
    x: ArrayLike,
    *,
    gradient_norms: GradientNorms,
    timesteps: Sequence[int],
    batch_size: int = 64,
    progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """(N, P) mean over timesteps of the norms: one backward pass per timestep."""
    images = check_images(x, name="x")
    if not timesteps:
        raise ValueError("expected at least one timestep")
    parts = []
    for rows in batches(len(images), batch_size=batch_size, progress=progress):
        count = rows.stop - rows.start
        norms = [_checked(gradient_norms(images[rows], [t]), num_records=count) for t in timesteps]
        parts.append(np.mean(norms, axis=0))
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class GsaClassifier:
    """Boosted trees fitted on shadow models' features only."""

    trees: HistGradientBoostingClassifier
    num_tensors: int

    def score(self, features: ArrayLike) -> Scores:
        """Log-odds of membership for the target's (N, P) features.

        Guarantee:  a record's score depends on its own features and the shadows alone. Published
                    code scales with statistics of the target's members and non-members together.
        """
        values = _checked(np.asarray(features), num_records=len(np.asarray(features)))
        if values.shape[1] != self.num_tensors:
            raise ValueError(f"features: expected {self.num_tensors} columns, got {values.shape}")
        return np.asarray(self.trees.decision_function(values), dtype=np.float64)


def fit(
    features: Sequence[ArrayLike],
    *,
    inclusion: Sequence[ArrayLike],
    rng: np.random.Generator,
    num_trees: int = 200,
) -> GsaClassifier:
    """Fit on each shadow's features and which of those records it trained on.

    Shape:      per shadow (N_s, P) and (N_s,) booleans.
    Raises:     ValueError for no shadows, unequal shapes, NaN, or one class only.
    """
    if not features or len(features) != len(inclusion):
        raise ValueError(f"expected features per shadow: {len(features)} and {len(inclusion)}")
    rows = [
        _checked(np.asarray(f), num_records=len(np.asarray(i)))
        for f, i in zip(features, inclusion, strict=True)
    ]
    if len({part.shape[1] for part in rows}) > 1:
        raise ValueError("features: shadows differ in their number of parameter tensors")
    labels = np.concatenate([np.asarray(flags, dtype=np.bool_) for flags in inclusion])
    if labels.all() or not labels.any():
        raise ValueError("inclusion: expected members and non-members of the shadows")
    trees = HistGradientBoostingClassifier(
        max_iter=num_trees,
        learning_rate=0.1,
        max_leaf_nodes=16,
        early_stopping=False,
        random_state=int(rng.integers(2**31)),
    )
    trees.fit(np.concatenate(rows), labels)
    return GsaClassifier(trees=trees, num_tensors=rows[0].shape[1])


def _checked(norms: NDArray[np.floating], *, num_records: int) -> NDArray[np.float64]:
    values = np.asarray(norms, dtype=np.float64)
    if values.ndim != 2 or len(values) != num_records or values.shape[1] == 0:
        raise ValueError(f"gradient norms: expected ({num_records}, P), got {values.shape}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("gradient norms: contain NaN, infinity or a negative value")
    return values
