"""Calibration by quantile regression: how high does a *non-member that looks like this* score?

Any score becomes comparable between easy and hard images without one shadow model.

Source:     Tang, Wu, Kearns, Roth, Ullman (2023), arXiv:2312.05140 (bag of quantile regressors);
            Romano, Patterson, Candès (2019), arXiv:1905.03222 (the conformal part).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor

from attacks.records import Images, Scores, check_disjoint, check_images, check_scores
from attacks.statistics.blind import image_statistics

__all__ = ["QuantileCalibration", "fit"]

_Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantileCalibration:
    """Fitted on public non-members alone; see ``fit``."""

    features: Callable[[Images], NDArray[np.float64]]
    median: _Predict
    upper: _Predict
    floor: float
    residuals: Scores
    public: Images

    def score(self, x: ArrayLike, *, scores: ArrayLike) -> Scores:
        """(s - q_50(x)) / (q_level(x) - q_50(x)), larger = member.

        Raises:     ValueError when ``x`` holds a record of the fit, which would be calibrated on
                    itself, or does not belong to ``scores``.
        """
        images = check_images(x, name="x", like=self.public)
        values = check_scores(scores)
        if len(images) != len(values):
            raise ValueError(f"x has {len(images)} records, scores {len(values)}")
        check_disjoint(images, self.public, names=("x", "the public non-members"))
        return self._standardised(images, values)

    def p_values(self, x: ArrayLike, *, scores: ArrayLike) -> Scores:
        """Conformal: (1 + #{calibration residuals >= ours}) / (1 + n), one per record.

        Guarantee:  a non-member exchangeable with the public ones gets p <= a with probability
                    <= a, for every a: flagging p <= a has FPR <= a without looking at the targets.
        """
        ours = self.score(x, scores=scores)
        below = np.searchsorted(self.residuals, ours, side="left")
        return np.asarray(
            (1 + len(self.residuals) - below) / (1 + len(self.residuals)), dtype=np.float64
        )

    def _standardised(self, images: Images, values: Scores) -> Scores:
        columns = self.features(images)
        middle = self.median(columns)
        width = np.maximum(self.upper(columns) - middle, self.floor)
        return np.asarray((values - middle) / width, dtype=np.float64)


def fit(
    public: ArrayLike,
    *,
    scores: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.9,
    num_components: int = 16,
    bag_size: int = 5,
) -> QuantileCalibration:
    """Learn the median and the ``level`` quantile of a non-member's score from its image.

    Half of ``public`` trains ``bag_size`` gradient-boosted pinball regressors, each on a bootstrap
    sample, of principal components and simple statistics; the other half calibrates.

    Shape:      public (N, C, H, W), scores (N,) of the attack on the target model.
    Raises:     ValueError below 100 public non-members or for scores that are all equal.
    """
    images = check_images(public, name="public")
    values = check_scores(scores)
    if len(images) != len(values):
        raise ValueError(f"public has {len(images)} records, scores {len(values)}")
    if len(images) < 100:
        raise ValueError(f"expected at least 100 public non-members, got {len(images)}")
    if not 0.5 < level < 1 or bag_size < 1:
        raise ValueError(f"expected 0.5 < level < 1 and bag_size >= 1, got {level}, {bag_size}")
    order = rng.permutation(len(images))
    train, calibration = order[: len(order) // 2], order[len(order) // 2 :]
    spread = float(np.quantile(values[train], level) - np.median(values[train]))
    if spread <= 0:
        raise ValueError("scores: the public non-members' scores do not spread; nothing to learn")
    width = min(num_components, images[0].size, len(train) - 1)
    pca = PCA(width, svd_solver="full").fit(images[train].reshape(len(train), -1))

    def features(x: Images) -> NDArray[np.float64]:
        return np.concatenate([pca.transform(x.reshape(len(x), -1)), image_statistics(x)], axis=1)

    columns = features(images[train])
    fitted = QuantileCalibration(
        features=features,
        median=_bag(columns, values[train], level=0.5, bag_size=bag_size, rng=rng),
        upper=_bag(columns, values[train], level=level, bag_size=bag_size, rng=rng),
        floor=0.1 * spread,
        residuals=np.empty(0),
        public=images,
    )
    residuals = np.sort(fitted._standardised(images[calibration], values[calibration]))
    return QuantileCalibration(
        features=features,
        median=fitted.median,
        upper=fitted.upper,
        floor=fitted.floor,
        residuals=residuals,
        public=images,
    )


def _bag(
    columns: NDArray[np.float64],
    values: Scores,
    *,
    level: float,
    bag_size: int,
    rng: np.random.Generator,
) -> _Predict:
    regressors = []
    for _ in range(bag_size):
        rows = rng.integers(0, len(values), len(values))
        regressor = HistGradientBoostingRegressor(
            loss="quantile",
            quantile=level,
            learning_rate=0.1,
            max_iter=60,
            max_leaf_nodes=8,
            random_state=int(rng.integers(2**31)),
        )
        regressors.append(regressor.fit(columns[rows], values[rows]))

    def predict(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            np.mean([regressor.predict(x) for regressor in regressors], axis=0), dtype=np.float64
        )

    return predict
