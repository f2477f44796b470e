"""The table on real digits: order of good and bad images, equal sizes, and clear refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from phoenix_secure.errors import DataError
from phoenix_secure.metrics.classifier import Classifier
from phoenix_secure.metrics.features import FeatureExtractor, efficientnet_lite0
from phoenix_secure.metrics.frechet import frechet_distance
from phoenix_secure.metrics.quality import (
    FRECHET_NUM_IMAGES,
    QualityTable,
    compare,
    min_images,
    quality,
)


def judge(
    generated: Any, pixels: Any, extractor: Any, *, size: int = 500, **more: Any
) -> QualityTable:
    return compare(
        generated,
        reference=pixels[500 : 500 + size],
        held_out=pixels[1000 : 1000 + size],
        extractor=extractor,
        rng=np.random.default_rng(1),
        **more,
    )


class Remembering:
    """An extractor that computes the features of the same images once."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.extractor, self.name, self.dim = extractor, extractor.name, extractor.dim
        self.known: dict[bytes, Any] = {}

    def __call__(self, images: Any, /) -> Any:
        key = images.tobytes()
        if key not in self.known:
            self.known[key] = self.extractor(images)
        return self.known[key]


@pytest.fixture(scope="module")
def blurred(pixels: np.ndarray) -> np.ndarray:
    return np.clip(gaussian_filter(pixels[:500], (0, 0, 1, 1)), -1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite0", "cnn"])
def test_real_digits_score_as_held_out_ones_and_blur_between_them_and_noise(
    name: str, pixels: np.ndarray, blurred: np.ndarray, classifier: Classifier
) -> None:
    lite0 = Remembering(efficientnet_lite0(device=torch.device("cpu"), resolution=64))
    size, extractor = (200, lite0) if name == "lite0" else (500, classifier)
    real = judge(pixels[:size], pixels, extractor, size=size).rows
    blur = judge(blurred[:size], pixels, extractor, size=size).rows["generated"]
    held_out, noise = real["held-out real"], real["noise"]
    for row in (real["generated"], held_out):
        assert abs(row.kid) < 4 * row.kid_std
        assert min(row.precision, row.recall, row.coverage) > 0.85
        assert row.density == pytest.approx(1, abs=0.15)
    assert held_out.kid + 4 * held_out.kid_std < blur.kid < noise.kid
    assert held_out.coverage > blur.coverage > noise.coverage
    assert blur.precision < held_out.precision
    if size == FRECHET_NUM_IMAGES:
        assert held_out.frechet < blur.frechet < noise.frechet  # type: ignore[operator]


def test_a_model_that_draws_one_digit_is_precise_but_does_not_recall(
    pixels: np.ndarray, classifier: Classifier
) -> None:
    row = judge(np.repeat(pixels[:1], 100, axis=0), pixels, classifier, size=100).rows["generated"]
    assert row.precision in (0, 1)
    assert row.recall == 0
    assert row.coverage < 0.3
    assert np.isfinite(row.kid)


def test_every_row_has_the_size_of_the_smallest_set(
    pixels: np.ndarray, classifier: Classifier
) -> None:
    table = judge(pixels[:120], pixels, classifier, size=300)
    assert table.num_images == 120
    assert list(table.rows) == ["generated", "held-out real", "noise"]
    for row in table.rows.values():
        assert (row.num_generated, row.num_reference) == (120, 120)
        assert row.frechet is None  # below its fixed number


def test_a_set_sorted_by_class_is_subsampled_over_all_of_it(
    pixels: np.ndarray, classifier: Classifier
) -> None:
    order = classifier.probabilities(pixels[1000:1500]).argmax(axis=1).argsort()
    table = compare(
        pixels[:100],
        reference=pixels[1000:1500][order],
        held_out=pixels[500:600],
        extractor=classifier,
        rng=np.random.default_rng(1),
    )
    assert table.rows["held-out real"].precision > 0.8


def test_same_generator_same_table_and_plain_json(
    pixels: np.ndarray, classifier: Classifier
) -> None:
    first, again = (judge(pixels[:100], pixels, classifier, size=100) for _ in range(2))
    assert first == again
    plain = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert plain["extractor"] == "cnn-mnist-5k"
    assert plain["frechet_name"] == "FD-cnn-mnist-5k"
    assert set(plain["rows"]["noise"]) == {
        "kid", "kid_std", "frechet", "precision", "recall", "density", "coverage",
        "num_generated", "num_reference",
    }  # fmt: skip


@pytest.mark.long
def test_ten_images_tell_noise_from_real_digits_and_six_mostly_do(pixels: np.ndarray) -> None:
    """What a run on 60 pictures is told by: a distance beside another, with its deviation."""
    rng = np.random.default_rng(4)
    extract = efficientnet_lite0(device=torch.device("cpu"))
    real = extract(pixels[:400])
    noise = extract(rng.random((100, 1, 28, 28), dtype=np.float32) * 2 - 1)
    told = dict.fromkeys((6, 10), 0)
    for size in told:
        for _ in range(40):
            drawn = rng.permutation(len(real))
            reference = real[drawn[:size]]
            good = quality(real[drawn[size : 2 * size]], reference, rng=rng)
            bad = quality(noise[rng.permutation(100)[:size]], reference, rng=rng)
            told[size] += bad.kid - good.kid > 2 * np.hypot(bad.kid_std, good.kid_std)
    assert told[10] == 40
    assert 30 <= told[6] < 40  # the page's "nine times out of ten"


def test_only_inception_features_are_called_fid(pixels: np.ndarray, classifier: Classifier) -> None:
    table = judge(pixels[:50], pixels, classifier, size=50)
    assert "FID" not in table.frechet_name
    named = QualityTable(rows=table.rows, extractor="Inception", num_images=50)
    assert named.frechet_name == "FID"


def test_frechet_is_taken_at_its_fixed_number_of_images() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(900, 8)), rng.normal(size=(700, 8))
    fixed = quality(x[:500], y[:500], rng=rng).frechet
    more = quality(x, y, rng=rng).frechet
    assert fixed == pytest.approx(frechet_distance(x[:500], y[:500]))
    assert more != pytest.approx(frechet_distance(x, y))
    assert quality(x[:499], y, rng=rng).frechet is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: np.where(x > 0, np.nan, x), "generated images hold NaN"),
        (lambda x: (x + 1) * 127.5, "generated images span 0 to 255"),
        (lambda x: x[:5], "5 images are too few.*at least 6"),
        (lambda x: x[:, :, :14, :14], "shape"),
        (lambda x: np.repeat(x, 3, axis=1), "shape"),
    ],
)
def test_broken_generated_images_are_refused(
    change: Any, reason: str, pixels: np.ndarray, classifier: Classifier
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        judge(change(pixels[:100]), pixels, classifier, size=100)
    assert "\n" not in str(caught.value)


def test_features_that_cannot_be_judged_are_refused() -> None:
    rng = np.random.default_rng(3)
    good = rng.normal(size=(60, 4))
    bad = {
        "too few": good[:5],
        "3 and 4 dimensions": good[:, :3],
        "NaN": np.where(good > 1, np.inf, good),
        "shape": good[0],
        "array of numbers": np.array([["a"]] * 60),
        "real features": good.astype(complex),
    }
    for reason, features in bad.items():
        with pytest.raises(DataError, match=reason):
            quality(features, good, rng=rng)
    with pytest.raises(DataError, match="all alike"):
        quality(good, np.ones((60, 4)), rng=rng)
    with pytest.raises(DataError, match="at least 80"):
        quality(good, good, rng=rng, kid_subset_size=40)
    assert (min_images(), min_images(nearest_k=70)) == (6, 71)
