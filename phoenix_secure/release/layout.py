"""The form of a release: how many features, classes and words.

Without torch: terms and plans are made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.errors import ConfigError

__all__ = ["CELLS", "DIRECTIONS", "GRID", "PATCH", "ReleaseLayout", "layout_of_release"]

GRID = 7  # cells along a side, over which gradients and brightness are pooled
DIRECTIONS = 8
PATCH = 5  # pixels along a side of a patch
CELLS = 4  # cells along a side, over which the waves of patches are pooled
_ANCHOR = 0.2  # share of the squared norm that hogpix gives to brightness and contrast
# Shares of the squared norm of each kind of projection.
_SHARES = {
    "pixel": {"pixel": 1.0},
    "hog": {"hog": 1.0},
    "hogpix": {"hog": 1 - _ANCHOR},
    "pixel-hog": {"pixel": 0.5, "hog": 0.5},
    "pixel-hog-patch": {"pixel": 0.3, "hog": 0.3, "patch": 0.4},
}
_LEAST_SIZE = 8
_LEAST_WITH_PATCHES = 4 * CELLS**2  # a cosine and a sine of each cell, and as many other waves


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
            "patch": self.channels * PATCH**2,
        }

    @property
    def projections(self) -> dict[str, int]:
        """Random Fourier features by kind: cosines and sines together."""
        kinds = _SHARES[self.release.features]
        left = self.release.num_features
        if "patch" not in kinds:
            return dict.fromkeys(kinds, left // len(kinds))
        of_filter = 2 * CELLS**2
        patch = left // (2 * of_filter) * of_filter  # half of them: whole filters
        rest = (left - patch) // 2
        return {"pixel": rest, "hog": rest, "patch": patch}

    @property
    def num_anchors(self) -> int:
        """Pooled means and mean squares."""
        return 2 * self.channels * GRID**2 if self.release.features == "hogpix" else 0

    @property
    def wave_weights(self) -> dict[str, float]:
        """The largest absolute value of a feature of each kind of projection."""
        shares = _SHARES[self.release.features]
        return {kind: math.sqrt(2 * shares[kind] / size) for kind, size in self.projections.items()}

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
    if release.features == "pixel-hog-patch" and release.num_features < _LEAST_WITH_PATCHES:
        raise ConfigError(
            f"release.num_features = {release.num_features} leaves no patch a wave: "
            f"{_LEAST_WITH_PATCHES} or more with release.features=pixel-hog-patch"
        )
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
