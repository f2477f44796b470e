"""Features of one image have norm at most 1, and the images beside it do not move a bit of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.errors import ConfigError
from phoenix_secure.release.features import NORM_BOUND, FeatureMap, exact_features
from phoenix_secure.release.layout import layout_of_release
from phoenix_secure.rng import SeedTree

KINDS = ("pixel", "hog", "hogpix", "pixel-hog", "pixel-hog-patch")


def feature_map(kind: str, *, channels: int = 1, size: int = 16, seed: int = 1) -> FeatureMap:
    release = ReleaseConfig.model_validate({"features": kind, "num_features": 64})
    layout = layout_of_release(release, channels=channels, image_size=size, num_classes=10)
    return FeatureMap(layout, seeds=SeedTree(seed))


def features_of(images: np.ndarray, features: FeatureMap) -> np.ndarray:
    return np.concatenate(list(exact_features(images, features)))


def noise_images(count: int, *, channels: int = 1, size: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, channels, size, size), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@given(
    images=hnp.arrays(
        np.uint8,
        (1, 3, 16, 16),
        elements=st.sampled_from([0, 1, 127, 254, 255]),
        fill=st.sampled_from([0, 255]),
    )
)
def test_norms_and_coordinates_are_bounded(kind: str, images: np.ndarray) -> None:
    features = feature_map(kind, channels=3)
    phi = features_of(images, features)

    assert np.linalg.norm(phi, axis=1).max() <= NORM_BOUND + 1e-12
    assert np.abs(phi).max() <= features.layout.max_coordinate


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (1, 28), (3, 32), (3, 64)])
def test_both_ways_to_the_features_agree(kind: str, channels: int, size: int) -> None:
    features = feature_map(kind, channels=channels, size=size)
    images = noise_images(3, channels=channels, size=size)
    quick = features(torch.from_numpy(images).float() / 255)

    assert quick.shape == (3, features.size)
    assert np.allclose(features_of(images, features), quick.numpy(), atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_companions_do_not_move_a_bit(kind: str) -> None:
    features = feature_map(kind, size=28)
    images = noise_images(150, size=28)
    together = features_of(images, features)

    assert np.array_equal(features_of(images[70:71], features)[0], together[70])
    assert np.array_equal(features_of(images[1:], features), together[1:])
    shuffled = np.random.default_rng(1).permutation(150)
    assert np.array_equal(features_of(images[shuffled], features), together[shuffled])


def test_pictures_without_an_edge_enter_zeros_or_their_brightness() -> None:
    flat = np.stack([np.zeros((1, 16, 16)), np.full((1, 16, 16), 200)]).astype(np.uint8)

    assert not features_of(flat, feature_map("hog")).any()
    black, grey = features_of(flat, feature_map("hogpix"))
    assert not black.any()
    assert np.flatnonzero(grey).min() >= 64  # the anchor alone


def test_patches_are_averaged_cell_by_cell() -> None:
    features = feature_map("pixel-hog-patch", channels=3)
    image = noise_images(1, channels=3)[0] / 255
    filters = features._projections["patch"].numpy()
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
    sums = np.zeros((2 * filters.shape[1], 4, 4))
    for y, x in np.ndindex(8, 8):
        patch = padded[:, 2 * y : 2 * y + 5, 2 * x : 2 * x + 5].ravel()
        sums[:, y // 2, x // 2] += np.concatenate(
            [np.cos(patch @ filters), np.sin(patch @ filters)]
        )
    expected = sums.ravel() / 4 * np.sqrt(2 * 0.4 / sums.size)

    found = features_of(noise_images(1, channels=3), features)[0]
    assert np.allclose(found[-sums.size :], expected, atol=1e-5)


def test_patches_see_fine_texture_more_than_whole_pictures_do() -> None:
    images = torch.tensor(load_digits().images[:300]).float() / 255
    smooth = torch.nn.functional.interpolate(images, size=16, mode="bilinear")
    signs = np.random.default_rng(0).choice([-0.1, 0.1], smooth.shape)
    rough = (smooth + torch.from_numpy(signs).float()).clamp(0, 1)
    release = ReleaseConfig(features="pixel-hog-patch", num_features=4000)
    layout = layout_of_release(release, channels=1, image_size=16, num_classes=10)
    features = FeatureMap(layout, seeds=SeedTree(0))
    change = (features(rough) - features(smooth)).mean(0)
    pixel, _, patch = change.split(list(layout.projections.values()))

    # Of a squared norm of 0.4 against 0.3.
    assert patch.norm() > 1.3 * pixel.norm()


def test_patches_need_some_features() -> None:
    release = ReleaseConfig(features="pixel-hog-patch", num_features=60)
    with pytest.raises(ConfigError, match="64 or more"):
        layout_of_release(release, channels=1, image_size=16, num_classes=10)


def test_the_seed_decides() -> None:
    images = noise_images(2)
    first = features_of(images, feature_map("pixel-hog"))

    assert np.array_equal(first, features_of(images, feature_map("pixel-hog")))
    assert not np.array_equal(first, features_of(images, feature_map("pixel-hog", seed=2)))


def test_images_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8 images"):
        features_of(noise_images(1, size=28), feature_map("hog"))
