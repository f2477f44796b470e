"""One image changes the integer sums by its bound at most, and the means come back from them."""

import numpy as np
import pytest

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.persons import Persons
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import DataError
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.release.class_sums import FeatureSummer, class_means, sum_features
from phoenix_secure.release.features import FeatureMap, exact_features
from phoenix_secure.release.layout import layout_of_release
from phoenix_secure.rng import SeedTree

GRID = IntegerGrid(steps=1 << 12, count_step=819, limit=1 << 30)


@pytest.fixture(scope="module")
def features() -> FeatureMap:
    release = ReleaseConfig.model_validate({"features": "hogpix", "num_features": 64})
    layout = layout_of_release(release, channels=1, image_size=8, num_classes=10)
    return FeatureMap(layout, seeds=SeedTree(3))


@pytest.fixture(scope="module")
def digits() -> SiteImages:
    found = load_digits()
    images = np.concatenate([found.images[:70], np.zeros((1, 1, 8, 8), np.uint8)])
    return SiteImages(images=images, labels=np.append(found.labels[:70], 0))


def without(site: SiteImages, index: int) -> SiteImages:
    assert site.labels is not None
    return SiteImages(
        images=np.delete(site.images, index, axis=0), labels=np.delete(site.labels, index)
    )


@pytest.mark.parametrize("num_classes", [1, 10])
def test_no_neighbour_is_further_than_the_sensitivity(
    digits: SiteImages, features: FeatureMap, num_classes: int
) -> None:
    whole = sum_features(digits, features, grid=GRID, num_classes=num_classes).words
    squares = []
    for index in range(len(digits.images)):
        fewer = sum_features(without(digits, index), features, grid=GRID, num_classes=num_classes)
        squares.append(int(np.square(whole - fewer.words).sum()))

    assert max(squares) <= GRID.squared_sensitivity
    assert max(squares) >= 0.8 * GRID.squared_sensitivity  # the bound is near what happens
    assert squares[-1] == GRID.count_step**2  # a black picture counts, and enters zeros


def test_cutting_off_moves_neighbours_no_further_apart(
    digits: SiteImages, features: FeatureMap
) -> None:
    narrow = IntegerGrid(steps=GRID.steps, count_step=GRID.count_step, limit=3000)
    whole = sum_features(digits, features, grid=narrow, num_classes=10).words
    fewer = sum_features(without(digits, 4), features, grid=narrow, num_classes=10).words

    assert np.abs(whole).max() == 3000
    assert np.square(whole - fewer).sum() <= narrow.squared_sensitivity


def test_rows_that_are_too_long_enter_zeros() -> None:
    grid = IntegerGrid(steps=100, count_step=20, limit=1 << 20)
    long = np.array([[0.9, 0.9, 0, 0], [0.6, 0, 0, 0.8], [1e18, 0, 0, 0]])
    rounded = grid.round(long)

    assert not rounded[0].any()
    assert not rounded[2].any()
    assert np.array_equal(rounded[1], [59, 0, 0, 79])


def test_rounding_keeps_every_vector_within_its_norm() -> None:
    grid = IntegerGrid(steps=60, count_step=12, limit=1 << 20)
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(2000, 49))
    phi *= (1 - 1e-6) / np.linalg.norm(phi, axis=1, keepdims=True)
    rounded = grid.round(phi)

    assert np.square(rounded).sum(axis=1).max() <= 60**2
    assert rounded.any(axis=1).all()


def test_means_and_counts_come_back(digits: SiteImages, features: FeatureMap) -> None:
    assert digits.labels is not None
    found = sum_features(digits, features, grid=GRID, num_classes=10)
    means = class_means(found.words, grid=GRID, num_classes=10)
    phi = np.concatenate(list(exact_features(digits.images, features)))

    assert np.allclose(means.counts, np.bincount(digits.labels, minlength=10), rtol=1e-3)
    for k in range(10):
        assert np.allclose(means.means[k], phi[digits.labels == k].mean(axis=0), atol=1e-3)


def test_classes_that_are_not_named_enter_nothing(digits: SiteImages, features: FeatureMap) -> None:
    assert digits.labels is not None
    unlabelled = SiteImages(images=digits.images, labels=None)

    assert not sum_features(unlabelled, features, grid=GRID, num_classes=10).words.any()
    kept = digits.labels < 5
    only = SiteImages(images=digits.images[kept], labels=digits.labels[kept])
    assert np.array_equal(
        sum_features(digits, features, grid=GRID, num_classes=5).words,
        sum_features(only, features, grid=GRID, num_classes=5).words,
    )


def test_a_class_that_noise_leaves_without_images_has_no_mean(features: FeatureMap) -> None:
    words = np.ones(2 * (features.size + 1))
    words[-2:] = [-5 * GRID.count_step, 3 * GRID.count_step]
    means = class_means(words, grid=GRID, num_classes=2)

    assert means.counts.tolist() == [0, 3]
    assert not means.means[0].any()


def test_a_site_without_images_enters_zeros(features: FeatureMap) -> None:
    empty = SiteImages(images=np.empty((0, 1, 8, 8), np.uint8), labels=None)

    assert not sum_features(empty, features, grid=GRID, num_classes=1).words.any()


def of_persons(site: SiteImages, sizes: list[int]) -> SiteImages:
    """The first images, so many of each person, dealt out so that persons lie across each other."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(0).permutation(len(groups))
    assert site.labels is not None
    return SiteImages(
        images=site.images[: len(groups)],
        labels=site.labels[: len(groups)],
        groups=groups[order].astype(np.int64),
    )


def words_of(site: SiteImages, features: FeatureMap, *, num_classes: int = 10) -> np.ndarray:
    persons = Persons(np.asarray(site.groups))
    return sum_features(site, features, grid=GRID, num_classes=num_classes, persons=persons).words


@pytest.mark.parametrize("num_classes", [1, 10])
def test_all_images_of_a_person_are_no_further_than_the_sensitivity(
    digits: SiteImages, features: FeatureMap, num_classes: int
) -> None:
    """Must fail image by image: eleven images of one class are more than three sensitivities."""
    site = of_persons(digits, [11, 1, 6, 2, 3, 1, 20, 4, 9])
    assert site.groups is not None
    assert site.labels is not None
    whole, squares, by_image = words_of(site, features, num_classes=num_classes), [], []
    of_images = sum_features(site, features, grid=GRID, num_classes=num_classes).words
    for person in range(9):
        others = site.groups != person
        fewer = SiteImages(
            images=site.images[others], labels=site.labels[others], groups=site.groups[others]
        )
        moved = whole - words_of(fewer, features, num_classes=num_classes)
        squares.append(int(np.square(moved).sum()))
        moved = of_images - sum_features(fewer, features, grid=GRID, num_classes=num_classes).words
        by_image.append(int(np.square(moved).sum()))

    assert max(squares) <= GRID.squared_sensitivity
    assert max(squares) >= 0.8 * GRID.squared_sensitivity
    assert max(by_image) > 9 * GRID.squared_sensitivity


def test_persons_of_one_image_each_are_images_bit_for_bit(
    digits: SiteImages, features: FeatureMap
) -> None:
    found = words_of(of_persons(digits, [1] * 71), features)
    assert np.array_equal(found, sum_features(digits, features, grid=GRID, num_classes=10).words)


def test_a_person_counts_once_with_the_mean_of_her_images(
    digits: SiteImages, features: FeatureMap
) -> None:
    own = np.flatnonzero(digits.labels == 3)[:5]
    site = SiteImages(images=digits.images[own], labels=np.full(5, 3), groups=np.zeros(5, np.int64))
    means = class_means(words_of(site, features), grid=GRID, num_classes=10)
    phi = np.concatenate(list(exact_features(site.images, features)))
    assert means.counts[3] == pytest.approx(1, rel=2e-3)
    assert np.allclose(means.means[3], phi.mean(axis=0), atol=2e-3)


def test_persons_of_several_classes_are_shared_between_them(
    digits: SiteImages, features: FeatureMap
) -> None:
    own = np.concatenate([np.flatnonzero(digits.labels == k)[:n] for k, n in ((1, 3), (8, 4))])
    site = SiteImages(
        images=digits.images[own], labels=digits.labels[own], groups=np.zeros(7, np.int64)
    )
    means = class_means(words_of(site, features), grid=GRID, num_classes=10)
    assert not means.counts[[0, 2, 3, 4, 5, 6, 7, 9]].any()


def test_summers_of_persons_need_to_know_whose_images_they_are(
    digits: SiteImages, features: FeatureMap
) -> None:
    summer = FeatureSummer(features, grid=GRID, by_person=True)
    with pytest.raises(DataError, match=r"data\.group"):
        summer.sum(digits)
    nobody = SiteImages(images=digits.images[:0], labels=None)
    assert not summer.sum(nobody).words.any()
