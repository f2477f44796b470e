"""Quality of generated images, always beside held-out real images and noise.

A distance alone says little. Beside the same distance for real images that nobody trained on (the
best to hope for) and for noise (no model at all) it says where between the two a model is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import DataError
from phoenix_secure.extensions import ExtensionPoint, extension
from phoenix_secure.metrics.checked import Images, check_features, check_images
from phoenix_secure.metrics.features import FeatureExtractor
from phoenix_secure.metrics.frechet import frechet_distance
from phoenix_secure.metrics.kernel_distance import kernel_distance
from phoenix_secure.metrics.manifold import manifold_scores

__all__ = [
    "FRECHET_NUM_IMAGES",
    "TELLING_IMAGES",
    "Quality",
    "QualityTable",
    "compare",
    "min_images",
    "quality",
]

# The Frechet distance is biased by the number of images, so that values are comparable at one
# number only. 500 is what a data set of 5000 keeps back at the default fractions.
FRECHET_NUM_IMAGES = 500
# With fewer, KID tells a trained model from noise, and chance is larger than any difference between
# two models (docs/metrics.md has the measurement).
TELLING_IMAGES = 50
KID_NUM_SUBSETS = 50
KID_MAX_SUBSET_SIZE = 1000  # the published choice; a larger one costs time and moves nothing
NEAREST_K = 5  # the choice of Naeem et al. (2020)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Scores of one set of images against the reference images.

    kid and kid_std: mean and deviation over subsets; lower is better, below 0 is chance. frechet:
    at FRECHET_NUM_IMAGES images, or None with fewer. precision, recall, coverage: shares in [0, 1];
    density: from 0, about 1 for real images.
    """

    kid: float
    kid_std: float
    frechet: float | None
    precision: float
    recall: float
    density: float
    coverage: float
    num_generated: int
    num_reference: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityTable:
    """Rows "generated", "held-out real" and "noise", all with ``num_images`` images."""

    rows: Mapping[str, Quality]
    extractor: str
    num_images: int
    extended: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # installed metrics

    @property
    def frechet_name(self) -> str:
        """FID for the Inception network alone, else FD with the extractor's name."""
        return "FID" if self.extractor == "Inception" else f"FD-{self.extractor}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "extractor": self.extractor,
            "frechet_name": self.frechet_name,
            "frechet_num_images": FRECHET_NUM_IMAGES,
            "num_images": self.num_images,
            "rows": {
                name: asdict(row) | dict(self.extended.get(name, {}))
                for name, row in self.rows.items()
            },
        }


def min_images(*, kid_subset_size: int | None = None, nearest_k: int = NEAREST_K) -> int:
    """Number of images needed on each side (one subset's worth would give KID a deviation of 0)."""
    return max(2 * (kid_subset_size or 0), nearest_k + 1)


def quality(
    generated_features: npt.NDArray[Any],
    reference_features: npt.NDArray[Any],
    *,
    rng: np.random.Generator,
    kid_subset_size: int | None = None,
    kid_num_subsets: int = KID_NUM_SUBSETS,
    nearest_k: int = NEAREST_K,
) -> Quality:
    """Scores of generated features against reference features of the same extractor.

    Shape:      (N, D) and (M, D); N and M at least ``min_images(...)``.
    Units:      kid_subset_size counts images; None takes half of the smaller set (1000 at most),
                which makes ``kid_std`` the standard error of ``kid``.
    Guarantee:  the same features and the same state of ``rng`` give the same scores.
    Raises:     DataError for too few, non-finite or differently shaped features, and for
                reference features that are all alike.
    Source:     ``kernel_distance``, ``frechet_distance`` and ``manifold_scores``.
    """
    generated = check_features(generated_features, what="generated features")
    reference = check_features(reference_features, what="reference features")
    if generated.shape[1] != reference.shape[1]:
        raise DataError(
            f"features have {generated.shape[1]} and {reference.shape[1]} dimensions: "
            "make both with the same extractor"
        )
    needed = min_images(kid_subset_size=kid_subset_size, nearest_k=nearest_k)
    for what, features in (("generated", generated), ("reference", reference)):
        if len(features) < needed:
            raise DataError(
                f"{len(features)} {what} images are too few to evaluate: give at least {needed}"
            )
    if not np.ptp(reference, axis=0).any():
        raise DataError("reference images are all alike: give different real images")
    kid, kid_std = kernel_distance(
        generated,
        reference,
        subset_size=kid_subset_size
        or min(len(generated) // 2, len(reference) // 2, KID_MAX_SUBSET_SIZE),
        num_subsets=kid_num_subsets,
        rng=rng,
    )
    frechet = None
    if min(len(generated), len(reference)) >= FRECHET_NUM_IMAGES:
        frechet = frechet_distance(
            _draw(generated, size=FRECHET_NUM_IMAGES, rng=rng),
            _draw(reference, size=FRECHET_NUM_IMAGES, rng=rng),
        )
    return Quality(
        kid=kid,
        kid_std=kid_std,
        frechet=frechet,
        num_generated=len(generated),
        num_reference=len(reference),
        **asdict(manifold_scores(generated, reference, nearest_k=nearest_k)),
    )


def compare(
    generated: Images,
    *,
    reference: Images,
    held_out: Images,
    extractor: FeatureExtractor,
    rng: np.random.Generator,
    metrics: Sequence[str] = (),
) -> QualityTable:
    """Evaluate generated images, held-out real images and noise against the same reference images.

    Shape:      three sets (N, C, H, H) in [-1, 1] of one image shape; each N may differ.
                ``metrics`` names installed ones, evaluated on the same images.
    Guarantee:  every row and the reference use the same number of images, that of the smallest
                set; larger sets are subsampled without replacement. Noise is uniform over [-1, 1]
                in every pixel. Same images and same state of ``rng``: same table.
    Raises:     DataError for wrong ranges, NaN, shapes that differ, or too few images.
    """
    sets = {
        "generated": check_images(generated, what="generated images"),
        "held-out real": check_images(held_out, what="held-out images"),
    }
    real = check_images(reference, what="reference images")
    for what, images in sets.items():
        if images.shape[1:] != real.shape[1:]:
            raise DataError(
                f"{what} images have shape {images.shape[1:]} and reference images "
                f"{real.shape[1:]}: give both the same size and channels"
            )
    size = min(len(real), *(len(images) for images in sets.values()))
    needed = min_images()
    if size < needed:
        raise DataError(
            f"{size} images are too few to evaluate (generated {len(generated)}, held-out "
            f"{len(held_out)}, reference {len(reference)}): give at least {needed} of each"
        )
    noise = rng.random((size, *real.shape[1:]), dtype=np.float32) * 2 - 1
    real = _draw(real, size=size, rng=rng)
    sets = {what: _draw(images, size=size, rng=rng) for what, images in sets.items()}
    reference_features = extractor(real)
    rows = {
        what: quality(extractor(images), reference_features, rng=rng)
        for what, images in {**sets, "noise": noise}.items()
    }
    extended = {
        what: {name: _own_metric(name, images, real) for name in metrics}
        for what, images in {**sets, "noise": noise}.items()
    }
    return QualityTable(
        rows=MappingProxyType(rows),
        extractor=extractor.name,
        num_images=size,
        extended=MappingProxyType(extended),
    )


def _own_metric(name: str, images: Images, reference: Images) -> float:
    value = float(extension(ExtensionPoint.METRIC, name)(images, reference))
    if not np.isfinite(value):
        raise DataError(f"the metric {name} gave {value}: it must be finite")
    return value


def _draw(vectors: npt.NDArray[Any], *, size: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """``size`` of them without replacement, in their own order (a set may be sorted by class)."""
    if len(vectors) == size:
        return vectors
    return vectors[np.sort(rng.choice(len(vectors), size, replace=False))]
