"""Steps of the classifier: exact sensitivity, the gradient of the softmax, and hostile weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import RunConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.release.classifier import FACTOR, LinearClassifier, probabilities, rounded
from phoenix_secure.release.classifier_sums import ClassifierSummer
from phoenix_secure.release.scattering import Scattering
from phoenix_secure.rng import SeedTree

GRID = IntegerGrid(steps=1 << 17, limit=1 << 40)
SIZE = Scattering(channels=1, image_size=8).size


def settings(**privacy: object) -> RunConfig:
    values = {"unit": "record", "noise_multiplier": 1.0, "sampling_rate": 1.0, "clip_norm": 0.3}
    return RunConfig.model_validate({"privacy": values | privacy})


def digits(num: int = 40) -> SiteImages:
    found = load_digits()
    return SiteImages(images=found.images[:num].copy(), labels=found.labels[:num].copy())


def without(site: SiteImages, index: int) -> SiteImages:
    assert site.labels is not None
    return SiteImages(images=np.delete(site.images, index, 0), labels=np.delete(site.labels, index))


def summed(site: SiteImages, weights: np.ndarray, *, grid: IntegerGrid = GRID) -> np.ndarray:
    summer = ClassifierSummer(settings(), num_classes=10, grid=grid)
    return summer.sum(weights, site, round_number=1, seeds=SeedTree(0)).words


def drawn_weights(seed: int, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(SIZE * 10) * scale).astype(np.float32)


@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.0, 1e-3, 0.1, 10.0, 9e2]))
def test_no_neighbour_is_further_than_the_sensitivity(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    images[0] = 0
    site = SiteImages(images=images, labels=rng.integers(-1, 12, 6))
    weights = drawn_weights(seed, scale)
    whole, index = summed(site, weights), seed % 6
    moved = whole - summed(without(site, index), weights)
    assert int(np.square(moved).sum()) <= GRID.steps**2
    # Alone it moves them by the same: nothing of an image depends on the others.
    assert np.array_equal(moved, summed(site.take(np.array([index])), weights))


def test_the_bound_is_near_what_happens() -> None:
    norms = [
        np.linalg.norm(summed(digits().take(np.array([k])), drawn_weights(1, 3.0)))
        for k in range(20)
    ]
    assert max(norms) > 0.95 * GRID.steps


def test_without_clipping_the_sum_would_be_further() -> None:
    """A must-fail: dividing by the clip norm alone breaks the bound."""

    class Unclipped(ClassifierSummer):
        def _errors(self, found: np.ndarray, labels: np.ndarray) -> np.ndarray:
            one_hot = labels[:, None] == np.arange(10)
            return (found - one_hot) / self._config.privacy.clip_norm

    summer = Unclipped(settings(), num_classes=10, grid=GRID)
    one = digits().take(np.array([3]))
    words = summer.sum(drawn_weights(1), one, round_number=1, seeds=SeedTree(0)).words
    assert int(np.square(words).sum()) > GRID.steps**2


def test_it_is_the_clipped_gradient_of_the_cross_entropy() -> None:
    site, vector = digits(12), drawn_weights(2, 0.05)
    features = torch.from_numpy(Scattering(channels=1, image_size=8)(site.images))
    expected = np.zeros(SIZE * 10)
    assert site.labels is not None
    for x, label in zip(features, site.labels, strict=True):
        w = torch.from_numpy(vector.astype(np.float64)).view(SIZE, 10).requires_grad_()
        loss = torch.nn.functional.cross_entropy(FACTOR * (x @ w)[None], torch.tensor([label]))
        loss.backward()
        assert w.grad is not None
        gradient = w.grad.numpy().ravel() / FACTOR
        expected -= gradient / max(np.linalg.norm(gradient), 0.3)
    found = summed(site, vector) / GRID.steps
    # Rounding takes up to 5 % of a length; the direction stays.
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.999
    assert 0.94 < np.linalg.norm(found) / np.linalg.norm(expected) < 1.01


def test_images_of_no_class_enter_zeros() -> None:
    found = digits(5)
    outside = np.array([-1, 10, 99, -7, 10])
    assert not summed(SiteImages(images=found.images, labels=outside), drawn_weights(0)).any()
    assert not summed(SiteImages(images=found.images, labels=None), drawn_weights(0)).any()


def test_hostile_weights_are_refused_before_an_image_is_looked_at() -> None:
    summer = ClassifierSummer(settings(), num_classes=10, grid=GRID)
    for value, kind in ((np.nan, ValueError), (np.inf, ValueError), (1e5, TrainingError)):
        weights = drawn_weights(0)
        weights[7] = value
        with pytest.raises(kind):
            summer.sum(weights, object(), round_number=1, seeds=SeedTree(0))  # type: ignore[arg-type]


def test_a_poisson_sample_is_what_enters() -> None:
    config = settings(sampling_rate=0.3, noise_source="seeded")
    summer = ClassifierSummer(config, num_classes=10, grid=GRID)
    site, weights = digits(), drawn_weights(0)
    one = summer.sum(weights, site, round_number=1, seeds=SeedTree(1)).words
    other = summer.sum(weights, site, round_number=1, seeds=SeedTree(2)).words
    again = summer.sum(weights, site, round_number=1, seeds=SeedTree(1)).words
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.linalg.norm(one) < np.linalg.norm(summed(site, weights))


def test_sums_are_cut_off_at_the_limit() -> None:
    narrow = IntegerGrid(steps=1 << 17, limit=1000)
    assert np.abs(summed(digits(), drawn_weights(0), grid=narrow)).max() == 1000


def test_settings_that_it_is_not_defined_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="several classes"):
        ClassifierSummer(settings(), num_classes=1, grid=GRID)
    with pytest.raises(ConfigError, match="word_bits=32"):
        summed(digits(2), drawn_weights(0), grid=IntegerGrid(steps=1 << 8, limit=1 << 20))


@given(seed=st.integers(0, 2**32), num=st.integers(1, 40))
def test_probabilities_are_softmax_whatever_the_company(seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    features = np.rint(rng.standard_normal((num, 30)) / 8 * 1024) / 1024
    weights = rng.standard_normal((30, 4)).astype(np.float32)
    found = probabilities(features, rounded(weights))
    logits = FACTOR * features @ weights.astype(np.float64)
    expected = torch.softmax(torch.from_numpy(logits), 1).numpy()
    assert found == pytest.approx(expected, abs=1e-3)


def test_steps_along_the_sums_learn_the_digits() -> None:
    site, weights = digits(600), np.zeros(SIZE * 10, np.float32)
    summer = ClassifierSummer(settings(), num_classes=10, grid=GRID)
    for _ in range(15):
        words = summer.sum(weights, site, round_number=1, seeds=SeedTree(0)).words
        weights = weights + (words / GRID.steps / 600).astype(np.float32)
    held = load_digits()
    classifier = LinearClassifier(weights, channels=1, image_size=8, num_classes=10)
    accuracy = (classifier(held.images[600:1200]) == held.labels[600:1200]).mean()
    assert accuracy > 0.9


def test_a_classifier_of_another_size_is_refused() -> None:
    for wrong in (np.zeros(SIZE * 10 - 1, np.float32), np.full(SIZE * 10, np.nan, np.float32)):
        with pytest.raises(ValueError, match="finite weights"):
            LinearClassifier(wrong, channels=1, image_size=8, num_classes=10)
