"""Blind baseline: tell members from non-members *without the model*.

Where that succeeds the two sets differ by themselves (another camera, another year, another JPEG
quality), and what an attack finds may be that difference. Only the excess over blind counts.

Source:     Das, Zhang, Tramèr (2024), arXiv:2406.16201.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from attacks.records import Images, Scores, check_images, check_membership
from attacks.statistics.auc import Auc, auc

__all__ = ["BlindBaseline", "blind_baseline", "image_statistics"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlindBaseline:
    """scores are out of fold, larger = looks like a member; for ``auc_difference``.

    auc, scores: None with ``reason`` when there are too few records to estimate it.
    differs:    the AUC lies above 0.5 beyond chance, by an interval at a fifth of the error (see
                ``blind_baseline``): members and non-members are not alike.
    """

    auc: Auc | None
    scores: Scores | None
    differs: bool | None
    reason: str | None = None


def image_statistics(x: Images) -> NDArray[np.float64]:
    """(N, 8 C): mean, deviation, extremes, quartiles, and roughness along rows and columns."""
    pixels = x.reshape(*x.shape[:2], -1).astype(np.float64)
    columns = [
        pixels.mean(axis=2),
        pixels.std(axis=2),
        pixels.min(axis=2),
        pixels.max(axis=2),
        *np.quantile(pixels, [0.25, 0.75], axis=2),
    ]
    for axis in (2, 3):
        steps = np.abs(np.diff(x.astype(np.float64), axis=axis))
        columns.append(steps.reshape(*x.shape[:2], -1).mean(axis=2) if steps.size else columns[0])
    return np.concatenate(columns, axis=1)


def blind_baseline(
    x: ArrayLike,
    *,
    membership: ArrayLike,
    rng: np.random.Generator,
    metadata: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_folds: int = 5,
    num_components: int = 32,
    confidence: float = 0.95,
) -> BlindBaseline:
    """Cross-validated AUC of a classifier: linear on pixels or trees on statistics.

    Which of the two is chosen in each fold by a cross-validation inside its training part.

    Scores are ranked within their fold, since the scale of a classifier differs between folds.

    With ``groups`` all records of one person are in one fold: a classifier that met her elsewhere
    would know her again, and call alike sets different. ``auc`` then still counts records, whose
    interval is too narrow; ``scores`` can be averaged over each person.

    Shape:      x (N, C, H, W); metadata (N, F) numbers such as size in bytes or year of recording;
                groups (N,), equal for records of one person.
    Returns:    not estimable below 4 records (persons, with ``groups``) per fold and side.
    """
    images = check_images(x, name="x")
    members = check_membership(membership, num_records=len(images))
    if num_folds < 2:
        raise ValueError(f"expected num_folds >= 2, got {num_folds}")
    whose = np.arange(len(images)) if groups is None else np.asarray(groups)
    if whose.shape != members.shape:
        raise ValueError(f"groups: expected shape {members.shape}, got {whose.shape}")
    fewest = min(len(np.unique(whose[side])) for side in (members, ~members))
    what = "records" if groups is None else "persons"
    if fewest < 4 * num_folds:
        return BlindBaseline(
            auc=None,
            scores=None,
            differs=None,
            reason=f"not estimable: needs {4 * num_folds} {what} on each side, there are {fewest}",
        )
    features = _with_metadata(image_statistics(images), metadata=metadata)
    pixels = images.reshape(len(images), -1).astype(np.float64)
    scores = np.zeros(len(images))
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(num_folds, shuffle=True, random_state=_state(rng))
    for train, test in folds.split(pixels, members, None if groups is None else whose):
        # Trees of so few records are a long row of barriers: threads that wait there for a core
        # that another program has burn theirs, and a second becomes ten.
        with threadpool_limits(1):
            scores[test] = _fold_scores(
                (pixels, features),
                members,
                train=train,
                test=test,
                whose=None if groups is None else whose,
                rng=rng,
                num_components=num_components,
            )
    found = auc(scores, membership=members, confidence=confidence)
    # Folds share training records, which spreads the AUC of alike sets 1.2 times as wide as
    # independent scores would (measured, 100 + 100 records): the decision takes a wider interval.
    wide = auc(scores, membership=members, confidence=1 - (1 - confidence) / 5).interval
    return BlindBaseline(auc=found, scores=scores, differs=wide.low > 0.5)


def _fold_scores(
    views: tuple[NDArray[np.float64], NDArray[np.float64]],
    members: NDArray[np.bool_],
    *,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    whose: NDArray[Any] | None,
    rng: np.random.Generator,
    num_components: int,
) -> NDArray[np.float64]:
    """Ranked scores of the test records, by the better of the two classifiers; ``views`` are the
    pixels and the statistics."""
    pixels, features = views
    linear = make_pipeline(
        PCA(min(num_components, pixels.shape[1], len(train) // 2), svd_solver="full"),
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=500),
    )
    trees = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=_state(rng))
    # Chosen inside the training folds: the better one at the end would be an optimist's.
    kind = StratifiedKFold if whose is None else StratifiedGroupKFold
    inner = kind(3, shuffle=True, random_state=_state(rng))
    groups = None if whose is None else whose[train]
    classifier, columns = max(
        ((linear, pixels), (trees, features)),
        key=lambda pair: cross_val_score(
            pair[0], pair[1][train], members[train], groups=groups, cv=inner, scoring="roc_auc"
        ).mean(),
    )
    classifier.fit(columns[train], members[train])
    return _fold_ranks(np.asarray(classifier.decision_function(columns[test])))


def _fold_ranks(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    smaller = (raw[None, :] < raw[:, None]).mean(axis=1)
    equal = (raw[None, :] == raw[:, None]).mean(axis=1)
    return np.asarray(smaller + equal / 2, dtype=np.float64)


def _with_metadata(
    features: NDArray[np.float64], *, metadata: ArrayLike | None
) -> NDArray[np.float64]:
    if metadata is None:
        return features
    extra = np.asarray(metadata, dtype=np.float64)
    if extra.ndim != 2 or len(extra) != len(features) or not np.isfinite(extra).all():
        raise ValueError(f"metadata: expected finite ({len(features)}, F), got {extra.shape}")
    return np.concatenate([features, extra], axis=1)


def _state(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
