"""A release's generator moves towards images whose class a private classifier reads.

The loss is that of the fit, to the mean features of the generator's *own* images as it was, and

    weight * mean of -log p(k | G(z, k))        p: the classifier, whose weights stay

An image that was drawn for one class and shows another turns into what it was drawn for, while the
classes keep their averages and so their variety. Generator and classifier are noised already: this
costs no privacy.

Source:     Odena, Olah and Shlens (2017), arXiv:1610.09585 (the auxiliary term, whose classifier is
            trained along with the generator there).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.release.class_sums import ClassMeans
from phoenix_secure.release.classifier import LinearClassifier
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.fitting import GeneratorFit
from phoenix_secure.release.generator import FittedGenerator
from phoenix_secure.release.layout import ReleaseLayout
from phoenix_secure.rng import SeedTree

__all__ = ["refinement"]

_FEATURES = 4000
_BATCH = 200
_READ = 60  # images of a batch that the classifier reads: it takes longer than the rest
_OWN = 2000  # images of a class, for its averages
_LEARNING_RATE = 1e-3
_AVERAGE = 0.98


def refinement(
    fitted: FittedGenerator,
    classifier: LinearClassifier,
    *,
    num_steps: int,
    weight: float,
    seeds: SeedTree,
    num_threads: int,
) -> GeneratorFit:
    """A fit of a copy of ``fitted``'s network, which stays as it is."""
    form = fitted.network.form
    layout = ReleaseLayout(
        release=ReleaseConfig(
            features="pixel-hog",
            num_features=_FEATURES,
            fit_steps=num_steps,
            fit_batch=_BATCH,
            fit_learning_rate=_LEARNING_RATE,
            fit_average=_AVERAGE,
        ),
        channels=form.channels,
        image_size=form.image_size,
        num_classes=form.num_classes,
    )
    seeds = seeds.child("refinement")
    features = FeatureMap(layout, seeds=seeds)

    def misread(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Images lie class by class: every third is some of each.
        every = -(-len(images) // _READ)
        logits = classifier.logits(images[::every].cpu())
        return weight * F.cross_entropy(logits, labels[::every].cpu()).to(images.device)

    return GeneratorFit(
        copy.deepcopy(fitted.network),
        _own_means(fitted, features, seeds=seeds),
        features,
        known=fitted.known,
        seeds=seeds,
        num_threads=num_threads,
        penalty=misread,
    )


@torch.no_grad()
def _own_means(fitted: FittedGenerator, features: FeatureMap, *, seeds: SeedTree) -> ClassMeans:
    network = fitted.network.eval()
    device = next(network.parameters()).device
    features = features.to(device)
    generator = seeds.child("own-means").torch()
    form = network.form
    means = np.zeros((form.num_classes, features.size))
    for k in fitted.known:
        for _ in range(_OWN // _BATCH):
            latents = torch.randn(_BATCH, form.latent_size, generator=generator).to(device)
            images = network(latents, torch.full((_BATCH,), k, device=device))
            means[k] += features(images).sum(0).double().cpu().numpy() / _OWN
    counts = np.zeros(form.num_classes)
    counts[list(fitted.known)] = _OWN
    return ClassMeans(means=means, counts=counts)
