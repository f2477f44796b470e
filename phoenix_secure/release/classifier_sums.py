"""One site, one step of a linear classifier (``model.network: classifier``): whole numbers.

The gradient of one image is the outer product of its features x (d,) and its error
p = softmax - one-hot (K,), clipped. Both are whole numbers before they are multiplied, so that the
sum over all images is one exact product of matrices, and no image's gradient is ever alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.privacy.integer_grid import IntegerGrid, IntegerSums
from phoenix_secure.privacy.randomness import Randomness, SecureRandomness, SeededRandomness
from phoenix_secure.release.classifier import probabilities, rounded
from phoenix_secure.release.scattering import Scattering
from phoenix_secure.rng import SeedTree

__all__ = ["ClassifierSummer"]

_ROWS = 64  # at once: they stay in a core's cache
_MOST_WEIGHT = 1e4
_LARGEST_LOSS = 0.05  # of a vector's length, to rounding


class ClassifierSummer:
    """Sums the gradients of one Poisson sample of a site's images, for noise that is added later.

    Guarantee:  adding or removing one image of the site changes the distribution of the sums as
                follows. With probability ``privacy.sampling_rate`` the image is in the sample, and
                moves them by a whole vector of norm at most ``grid.steps``; else it changes
                nothing. The sums themselves are *not* private.
    Notes:      An image without one of the classes enters zeros. Features are computed once for
                each site. Its sums are too large by the part of a length that is kept for
                rounding, 5 % at most, which a learning rate hides.
    Raises:     ConfigError for settings under which it is not defined.
    """

    def __init__(self, config: RunConfig, *, num_classes: int, grid: IntegerGrid) -> None:
        if config.privacy.unit != "record":
            raise ConfigError("model.network classifier needs privacy.unit=record")
        if num_classes < 2:
            raise ConfigError("model.network classifier needs labelled images of several classes")
        self._config = config
        self._num_classes = num_classes
        self._grid = grid
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()

    def sum(
        self,
        global_vector: np.ndarray,
        site: SiteImages,
        *,
        round_number: int,
        seeds: SeedTree,
        before_block: Callable[[], object] = lambda: None,
    ) -> IntegerSums:
        """The words (d K,) of one step at ``global_vector``; ``seeds`` count only for ``seeded``.
        ``before_block`` may raise, to stop halfway.

        Raises:     ValueError and TrainingError for weights that are not finite or beyond 10,000,
                    before any image is looked at.
        """
        if not np.isfinite(global_vector).all():
            raise ValueError("expected finite weights")
        if np.abs(global_vector).max(initial=0.0) > _MOST_WEIGHT:
            raise TrainingError(
                f"weights beyond {_MOST_WEIGHT:g} came for round {round_number}: lower "
                "training.learning_rate or federation.server_learning_rate"
            )
        features, steps = self._features_of(site, before_block)
        labels = np.full(len(site.images), -1) if site.labels is None else site.labels
        weights = global_vector.reshape(-1, self._num_classes)
        of_whole = rounded(weights) / steps  # a power of two
        sample = self._randomness(seeds).included(
            len(site.images), probability=self._config.privacy.sampling_rate
        )
        total = np.zeros((self._num_classes, len(weights)))
        # Always as many rows: the same instructions run whatever the sample is.
        whole = np.zeros((_ROWS, len(weights)))
        for start in range(0, len(sample), _ROWS):
            before_block()
            own = sample[start : start + _ROWS]
            whole[: len(own)] = features[own]
            whole[len(own) :] = 0
            errors = self._errors(probabilities(whole, of_whole)[: len(own)], labels[own])
            total -= np.trunc(errors * (self._grid.steps // steps)).T @ whole[: len(own)]
        return IntegerSums(words=self._grid.cut_off(total.T.ravel().astype(np.int64)))

    def _errors(self, found: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(n, K), of length at most 1: the clipped error over ``clip_norm``."""
        is_known = (labels >= 0) & (labels < self._num_classes)
        one_hot = labels[:, None] == np.arange(self._num_classes)
        errors = np.where(is_known[:, None], found - one_hot, 0.0)
        squares = errors[:, 0] ** 2
        for k in range(1, self._num_classes):
            squares += errors[:, k] ** 2
        # Below 1 by more than float64 rounding can add; cut towards zero, it gets no longer.
        norm = np.maximum(np.sqrt(squares), self._config.privacy.clip_norm) * (1 + 1e-9)
        clipped: np.ndarray = errors / norm[:, None]
        return clipped

    def _features_of(
        self, site: SiteImages, before_block: Callable[[], object]
    ) -> tuple[np.ndarray, int]:
        """Features (n, d) int16 of length at most ``steps``, a power of two; computed once."""
        form = site.images.shape[1:]
        scattering = Scattering(channels=form[0], image_size=form[1])
        steps = _steps_of_features(scattering.size, largest=self._grid.steps)
        with self._lock:
            kept = self._kept.get(id(site.images))
            if kept is None:
                found = np.empty((len(site.images), scattering.size), np.int16)
                for start in range(0, len(found), _ROWS):
                    before_block()
                    part = scattering(site.images[start : start + _ROWS])
                    found[start : start + len(part)] = _whole(part, steps)
                # The images are kept, too: their identity is the key.
                kept = self._kept[id(site.images)] = site.images, found
        return kept[1], steps

    def _randomness(self, seeds: SeedTree) -> Randomness:
        if self._config.privacy.noise_source == "seeded":
            return SeededRandomness(seeds.child("dp").entropy())
        return SecureRandomness()


def _steps_of_features(size: int, *, largest: int) -> int:
    """A power of two of which rounding (d,) numbers takes 5 % at most, and that leaves as much as
    possible to the errors.

    Raises:     ConfigError where nothing would be left.
    """
    steps = 1
    while np.sqrt(size) / 2 > _LARGEST_LOSS * steps:
        steps *= 2
    if 16 * steps > largest:
        raise ConfigError(
            "the words are too narrow for the gradients of a classifier: set "
            "secure_aggregation.word_bits=32, or lower data.image_size or training.batch_size"
        )
    return steps


def _whole(features: np.ndarray, steps: int) -> np.ndarray:
    """Whole numbers (n, d) whose squared norm, computed in whole numbers, is at most steps^2; a row
    for which it would not be enters zeros."""
    scale = steps - np.sqrt(features.shape[1]) / 2
    words = np.rint(features * scale).astype(np.int64)
    words[np.einsum("bd,bd->b", words, words) > steps**2] = 0
    found: np.ndarray = words.astype(np.int16)
    return found
