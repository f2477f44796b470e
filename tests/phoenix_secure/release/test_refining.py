"""A refined generator draws what its labels say, and keeps its own averages."""

from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import from_unit_range
from phoenix_secure.release.class_sums import ClassMeans
from phoenix_secure.release.classifier import FACTOR, LinearClassifier
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.fitting import GeneratorFit
from phoenix_secure.release.generator import FittedGenerator, sample_generated
from phoenix_secure.release.layout import layout_of_release
from phoenix_secure.release.networks import GeneratorForm, build_generator
from phoenix_secure.release.refining import refinement
from phoenix_secure.release.scattering import Scattering
from phoenix_secure.rng import SeedTree

FORM = GeneratorForm(channels=1, image_size=8, num_classes=10, latent_size=4)
KNOWN = (0, 1, 3, 4, 7, 8)


@pytest.fixture(scope="module")
def classifier() -> LinearClassifier:
    """Of real digits, without noise."""
    digits = load_digits()
    features = torch.from_numpy(Scattering(channels=1, image_size=8)(digits.images)).float()
    labels = torch.tensor(digits.labels)
    weights = torch.zeros(features.shape[1], 10, requires_grad=True)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(FACTOR * (features @ weights), labels)
        (slope,) = torch.autograd.grad(loss, weights)
        weights = (weights - slope).detach().requires_grad_()
    vector = weights.detach().numpy().ravel()
    found = LinearClassifier(vector, channels=1, image_size=8, num_classes=10)
    assert (found(digits.images) == digits.labels).mean() > 0.9
    return found


@pytest.fixture(scope="module")
def blurred() -> FittedGenerator:
    """Fitted for some steps to the averages of real digits: too few to tell them all apart."""
    digits = load_digits()
    release = ReleaseConfig(features="pixel-hog", num_features=128, fit_steps=60, fit_batch=80)
    layout = layout_of_release(release, channels=1, image_size=8, num_classes=10)
    features = FeatureMap(layout, seeds=SeedTree(0))
    phi = features(torch.from_numpy(digits.images).float() / 255).double().numpy()
    fit = GeneratorFit(
        build_generator(FORM, seeds=SeedTree(0)),
        ClassMeans(
            means=np.stack([phi[digits.labels == k].mean(0) for k in range(10)]),
            counts=np.bincount(digits.labels).astype(float),
        ),
        features,
        known=KNOWN,
        seeds=SeedTree(0),
        num_threads=1,
    )
    for _ in range(fit.num_steps):
        fit.advance()
    fit.finish()
    return FittedGenerator(network=fit.network, class_names=(), known=KNOWN, sum_sha256="")


def started(
    fitted: FittedGenerator, classifier: LinearClassifier, *, num_steps: int, weight: float
) -> GeneratorFit:
    return refinement(
        fitted, classifier, num_steps=num_steps, weight=weight, seeds=SeedTree(3), num_threads=1
    )


def share_read(network: torch.nn.Module, classifier: LinearClassifier) -> float:
    labels = np.array(KNOWN)[np.arange(120) % len(KNOWN)]
    latents = torch.randn(120, FORM.latent_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        images = network(latents, torch.from_numpy(labels)) * 2 - 1
    return float((classifier(from_unit_range(images.numpy())) == labels).mean())


def test_soft_features_are_the_exact_ones_but_for_their_rounding() -> None:
    digits = load_digits().images[:40]
    for images, side in ((digits, 8), (np.kron(digits, np.ones((1, 1, 9, 9), np.uint8)), 72)):
        scattering = Scattering(channels=1, image_size=side)
        soft = scattering.soft(torch.tensor(images).float() / 255).numpy()
        exact = scattering(images)
        assert soft.shape == exact.shape
        assert np.linalg.norm(soft, axis=1) == pytest.approx(1, abs=1e-5)
        assert (soft * exact).sum(1).min() > 0.99


def test_logits_lead_to_the_class_that_the_classifier_reads(classifier: LinearClassifier) -> None:
    digits = load_digits().images[:300]
    logits = classifier.logits(torch.from_numpy(digits).float() / 255)
    assert (logits.argmax(1).numpy() == classifier(digits)).mean() > 0.98


def test_a_slope_of_the_logits_is_their_difference(classifier: LinearClassifier) -> None:
    images = (torch.from_numpy(load_digits().images[:1]).float() / 255).requires_grad_()
    (slope,) = torch.autograd.grad(classifier.logits(images)[0, 3], images)
    way = slope / slope.norm() * 1e-2
    with torch.no_grad():
        ends = [float(classifier.logits(images + sign * way)[0, 3]) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(slope.norm()), rel=0.02)


@pytest.mark.long
def test_more_images_show_what_they_were_drawn_for_and_averages_stay(
    blurred: FittedGenerator, classifier: LinearClassifier
) -> None:
    before = {name: value.clone() for name, value in blurred.network.state_dict().items()}
    read, moved = {}, {}
    for weight in (1e-9, 0.03):
        fit = started(blurred, classifier, num_steps=80, weight=weight)
        moved[weight] = np.mean([fit.advance() for _ in range(fit.num_steps)][-10:])
        fit.finish()
        read[weight] = share_read(fit.network, classifier)
    assert read[1e-9] + 0.1 < read[0.03]
    assert read[0.03] > 0.95
    # Squared; the means of any two classes of real digits are 0.2 apart or more.
    assert moved[0.03] < 0.15
    # The release's own generator stays as it was.
    after = blurred.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_it_goes_on_to_the_same_weights(
    blurred: FittedGenerator, classifier: LinearClassifier, tmp_path: Path
) -> None:
    whole, first, second = (
        started(blurred, classifier, num_steps=4, weight=0.03) for _ in range(3)
    )
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        first.advance()
    (tmp_path / "fit").write_bytes(first.to_bytes(of="state"))
    assert second.restore(tmp_path / "fit", of="state")
    while second.step < 4:
        second.advance()
    for fit in (whole, second):
        fit.finish()
    expected = whole.network.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in second.network.state_dict().items())


def test_classes_that_the_release_does_not_know_are_never_drawn(
    blurred: FittedGenerator, classifier: LinearClassifier
) -> None:
    fit = started(blurred, classifier, num_steps=2, weight=0.03)
    fit.advance()
    assert fit.known == KNOWN
    images = sample_generated(blurred, num_images=12, generator=torch.Generator().manual_seed(0))
    assert images.shape == (12, 1, 8, 8)
