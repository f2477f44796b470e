"""The form of a release: how many features, classes and words, and the whole numbers they become.

Without torch: terms and plans are made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.errors import ConfigError

__all__ = ["DIRECTIONS", "GRID", "IntegerGrid", "ReleaseLayout", "layout_of_release"]

GRID = 7  # cells along a side, over which gradients and brightness are pooled
DIRECTIONS = 8
_ANCHOR = 0.2  # share of the squared norm that hogpix gives to brightness and contrast
_LEAST_SIZE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseLayout:
    """The form of one release; all parties derive the same from the settings.

    num_classes   K; 1 where all images are summed together
    """

    release: ReleaseConfig
    channels: int
    image_size: int
    num_classes: int

    @property
    def num_inputs(self) -> dict[str, int]:
        """Numbers that each kind of projection reads."""
        return {
            "pixel": self.channels * self.image_size**2,
            "hog": self.channels * DIRECTIONS * GRID**2,
        }

    @property
    def projections(self) -> dict[str, int]:
        """Random Fourier features by kind: cosines and sines together."""
        d = self.release.num_features
        match self.release.features:
            case "pixel-hog":
                return {"pixel": d // 2, "hog": d // 2}
            case "pixel":
                return {"pixel": d}
            case _:
                return {"hog": d}

    @property
    def num_anchors(self) -> int:
        """Pooled means and mean squares."""
        return 2 * self.channels * GRID**2 if self.release.features == "hogpix" else 0

    @property
    def wave_weights(self) -> dict[str, float]:
        """The largest absolute value of a feature of each kind of projection."""
        share = (1 - _ANCHOR if self.num_anchors else 1.0) / len(self.projections)
        return {kind: math.sqrt(2 * share / size) for kind, size in self.projections.items()}

    @property
    def anchor_weight(self) -> float:
        """The same for the anchors: all of them at 1 have the squared norm 0.2."""
        return math.sqrt(_ANCHOR / self.num_anchors) if self.num_anchors else 0.0

    @property
    def num_features(self) -> int:
        """D of one class."""
        return self.release.num_features + self.num_anchors

    @property
    def max_coordinate(self) -> float:
        """No feature is larger in absolute value."""
        return max(*self.wave_weights.values(), self.anchor_weight) + 1e-6

    @property
    def num_words(self) -> int:
        """K (D + 1): features and a count for each class."""
        return self.num_classes * (self.num_features + 1)


def layout_of_release(
    release: ReleaseConfig, *, channels: int, image_size: int, num_classes: int
) -> ReleaseLayout:
    """The layout for images of this form with so many labelled classes (0: no labels).

    Raises:     ConfigError naming the setting.
    """
    if image_size < _LEAST_SIZE:
        raise ConfigError(f"data.image_size = {image_size} is too small for a release: 8 or more")
    if release.classes == "none":
        num_classes = 1
    elif num_classes == 0:
        raise ConfigError(
            "release.classes labels needs labelled images, in a deployment release.class_names: "
            "set them, or release.classes=none"
        )
    return ReleaseLayout(
        release=release, channels=channels, image_size=image_size, num_classes=num_classes
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerGrid:
    """Whole numbers in place of features and counts.

    steps         S: no image's features are longer than this, in steps
    count_step    an image counts as so many steps
    limit         no word of a site's sums is larger in absolute value: what is beyond is cut off,
                  coordinate by coordinate, which moves two neighbours no further apart
    """

    steps: int
    count_step: int
    limit: int

    def __post_init__(self) -> None:
        if not (0 < self.steps < 1 << 24 and 0 < self.count_step < 1 << 24 and self.limit > 0):
            raise ValueError("expected 0 < steps, count_step < 2^24 and limit > 0")

    @property
    def squared_sensitivity(self) -> int:
        """Of adding or removing one image."""
        return self.steps**2 + self.count_step**2

    def feature_scale(self, num_features: int) -> float:
        """Steps of one unit of a feature: rounding to the nearest adds sqrt(D) / 2 at most.

        Raises:     ValueError where rounding would leave nothing.
        """
        scale = self.steps - math.sqrt(num_features) / 2
        if scale <= 0:
            raise ValueError("expected more steps than half the root of the number of features")
        return scale

    def round(self, phi: np.ndarray) -> np.ndarray:
        """Whole numbers (b, D) int64 for features (b, D) of norm at most 1.

        Guarantee:  the squared norm of every row, computed in whole numbers, is at most steps^2;
                    a row for which it would not be enters zeros.
        """
        rounded = np.rint(phi * self.feature_scale(phi.shape[1]))
        # Written so that NaN is not within. Squares of what is left add up below 2^63.
        rounded[~(np.abs(rounded) <= self.steps).all(axis=1)] = 0
        words = rounded.astype(np.int64)
        words[np.square(words).sum(axis=1) > self.steps**2] = 0
        return words
