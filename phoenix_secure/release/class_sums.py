"""Class-wise sums of features as whole numbers, whose sensitivity is exact.

Each image's features are rounded to whole numbers before anything is added, and their norm is
checked in whole numbers. One image, its label included, then changes a site's vector by at most
``sqrt(steps^2 + count_step^2)``: no rounding error is left to bound.

::

    words = S_1 ... S_K (D each), n_1 ... n_K      S_k = sum of v(x), n_k = sum of count_step

Where persons are protected, the sums over one person's images, all classes together, are scaled
down until they are no longer than those of one image: she counts once, whatever she brought.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from phoenix_secure.data.persons import Persons, persons_of
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.privacy.integer_grid import IntegerGrid, IntegerSums
from phoenix_secure.release.features import FeatureMap, exact_features

__all__ = ["ClassMeans", "FeatureSummer", "class_means", "sum_features"]

_log = logging.getLogger(__name__)
_AT_ONCE = 1 << 12  # images copied into the order of persons


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMeans:
    """What a generator is fitted to: noised mean features (K, D) and numbers of images (K,)."""

    means: np.ndarray
    counts: np.ndarray


def sum_features(
    site: SiteImages,
    features: FeatureMap,
    *,
    grid: IntegerGrid,
    num_classes: int,
    persons: Persons | None = None,
    before_block: Callable[[], object] = lambda: None,
) -> IntegerSums:
    """The words (K (D + 1),) of one site; ``num_classes`` = 1 sums all images together.

    An image whose label is none of the classes enters nothing, and so does every image of a site
    without labels where there are several classes.

    Guarantee:  one image more or less changes the result by a vector of squared norm
                ``grid.squared_sensitivity`` at most, whatever the images are; with ``persons``, all
                images of one of them more or less do.
    """
    sums = np.zeros((num_classes, features.size), np.int64)
    counts = np.zeros(num_classes, np.int64)
    labels = np.zeros(len(site.images), np.int64)
    if num_classes > 1:
        labels = np.full(len(site.images), -1) if site.labels is None else site.labels
    if persons is not None:
        for own, phi in _by_person(site.images, features, persons, before_block=before_block):
            _add_person(sums, counts, phi, labels[own], grid=grid)
        return IntegerSums(words=grid.cut_off(np.concatenate([sums.ravel(), counts])))
    start = 0
    for phi in exact_features(site.images, features):
        before_block()
        rounded = grid.round(phi)
        of_block = labels[start : start + len(phi)]
        start += len(phi)
        for k in np.unique(of_block):
            if 0 <= k < num_classes:
                sums[k] += rounded[of_block == k].sum(axis=0)
                counts[k] += int((of_block == k).sum()) * grid.count_step
    words = np.concatenate([sums.ravel(), counts])
    return IntegerSums(words=grid.cut_off(words))


def _by_person(
    images: np.ndarray,
    features: FeatureMap,
    persons: Persons,
    *,
    before_block: Callable[[], object],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each person's indices (m,) and the features of her images (m, D)."""
    order = np.concatenate([np.empty(0, np.int64), *persons])
    waiting = np.empty((0, features.size))
    number = 0
    for start in range(0, len(order), _AT_ONCE):
        for phi in exact_features(images[order[start : start + _AT_ONCE]], features):
            before_block()
            waiting = np.concatenate([waiting, phi])
            while number < len(persons) and len(persons[number]) <= len(waiting):
                own = persons[number]
                yield own, waiting[: len(own)]
                waiting = waiting[len(own) :]
                number += 1


def _add_person(
    sums: np.ndarray, counts: np.ndarray, phi: np.ndarray, labels: np.ndarray, *, grid: IntegerGrid
) -> None:
    """Add what one person enters to ``sums`` (K, D) and ``counts`` (K,)."""
    classes = [int(k) for k in np.unique(labels) if 0 <= k < len(counts)]
    if not classes:
        return
    # Her own images alone, added one after the other: the same bits in any company.
    own = np.stack([phi[labels == k].sum(axis=0) for k in classes])
    numbers = np.array([(labels == k).sum() for k in classes])
    words, counted = grid.round_together(own, numbers)
    sums[classes] += words
    counts[classes] += counted


class FeatureSummer:
    """Sums any site's images: what a trainer is to a run of rounds.

    by_person    a person's images together count as one record (``privacy.unit: group``)
    """

    def __init__(self, features: FeatureMap, *, grid: IntegerGrid, by_person: bool = False) -> None:
        self._features = features
        self._grid = grid
        self._by_person = by_person

    def sum(
        self, site: SiteImages, *, before_block: Callable[[], object] = lambda: None
    ) -> IntegerSums:
        """The site's words (``sum_features``); ``before_block`` may raise, to stop halfway.

        Raises:     DataError where persons are meant and the images do not say whose they are.
        """
        persons = None
        if self._by_person:
            persons = persons_of(site.groups, num_images=len(site.images))
        num_classes = self._features.layout.num_classes
        if num_classes > 1:
            labels = np.full(len(site.images), -1) if site.labels is None else site.labels
            outside = int(((labels < 0) | (labels >= num_classes)).sum())
            if outside:
                _log.warning(
                    "%d of %d images have none of the release's classes: they enter nothing",
                    outside,
                    len(site.images),
                )
        return sum_features(
            site,
            self._features,
            grid=self._grid,
            num_classes=num_classes,
            persons=persons,
            before_block=before_block,
        )


def class_means(words: np.ndarray, *, grid: IntegerGrid, num_classes: int) -> ClassMeans:
    """Mean features and counts from the noised sum (K (D + 1),) in steps: post-processing.

    A class that the noise leaves without images has a count of 0, and zeros for its mean.
    """
    size = words.size // num_classes - 1
    if words.size != num_classes * (size + 1):
        raise ValueError(f"expected {num_classes} classes in {words.size} words")
    sums = words[: num_classes * size].reshape(num_classes, size).astype(np.float64)
    counts = words[num_classes * size :].astype(np.float64) / grid.count_step
    is_there = counts >= 1
    means = np.zeros_like(sums)
    divisor = counts[is_there, None] * grid.feature_scale(size)
    means[is_there] = sums[is_there] / divisor
    return ClassMeans(means=means, counts=np.where(is_there, counts, 0.0))
