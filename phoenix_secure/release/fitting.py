"""Fitting a generator to noised class means: post-processing, which costs no privacy.

Adam minimises sum_k |E phi(G(z, k)) - mu_k|^2. The square of one batch's mean would be biased: it
adds the variance over the batch size, which rewards less variety. The product of the errors of two
independent halves of the batch is not:

    loss = mean_k <m_k - mu_k, m'_k - mu_k>      m_k, m'_k: means of phi over either half

It can be negative. The gradient is exact for the same sum in expectation.

Source: Harder, Adamczewski and Park (2021), arXiv:2002.11603 (the objective); Gretton et al.
(2012), JMLR 13, Lemma 6 (unbiased estimates of the kernel distance).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from phoenix_secure.config import ReleaseConfig
from phoenix_secure.errors import TrainingError
from phoenix_secure.release.class_sums import ClassMeans
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.generator import Generator
from phoenix_secure.rng import SeedTree

__all__ = ["FitStep", "fit_generator", "halves_loss", "known_classes"]

_REPORT_EVERY = 50
# A class counts as known when so many images are left after the noise: fewer are noise.
_LEAST_COUNT = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FitStep:
    """Progress: ``loss`` is an estimate of the squared distance, and may be below zero."""

    step: int
    num_steps: int
    loss: float
    seconds: float


def known_classes(means: ClassMeans, *, count_noise: float) -> tuple[int, ...]:
    """Classes whose noised count says that they have images: three deviations of it or more.

    Raises:     TrainingError where there is none.
    """
    least = max(_LEAST_COUNT, 3 * count_noise)
    known = tuple(int(k) for k in np.flatnonzero(means.counts >= least))
    if not known:
        raise TrainingError(
            "the noise hides every class: no noised count is above three of its deviations; raise "
            "privacy.epsilon, or let more images take part"
        )
    return known


def halves_loss(first: torch.Tensor, second: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean over classes of <first - target, second - target>, all (K, D)."""
    return ((first - target) * (second - target)).sum(1).mean()


def fit_generator(
    network: Generator,
    means: ClassMeans,
    features: FeatureMap,
    *,
    known: tuple[int, ...],
    seeds: SeedTree,
    num_threads: int,
) -> Iterator[FitStep]:
    """Fit ``network`` in place, on the device where it is, reporting now and then.

    Guarantee:  the same weights on one machine with the same number of threads.
    Raises:     TrainingError when the loss is not finite.
    """
    release: ReleaseConfig = features.layout.release
    device = next(network.parameters()).device
    features.to(device)
    targets = torch.from_numpy(means.means).float().to(device)
    optimizer = torch.optim.Adam(network.parameters(), release.fit_learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, release.fit_steps)
    generator = seeds.child("release", "fit").torch()
    classes = torch.tensor(known)
    per_step = min(len(known), release.fit_batch // 4)
    size = release.fit_batch // (2 * per_step)
    started = time.perf_counter()
    for step in range(1, release.fit_steps + 1):
        with _threads(num_threads):
            chosen = classes
            if per_step < len(known):
                chosen = classes[torch.randperm(len(known), generator=generator)[:per_step]]
            latents = torch.randn(
                2 * per_step * size, network.form.latent_size, generator=generator
            )
            labels = chosen.repeat_interleave(size).repeat(2)
            images = network.train()(latents.to(device), labels.to(device))
            halves = features(images).view(2, per_step, size, -1).mean(2)
            loss = halves_loss(halves[0], halves[1], targets[chosen.to(device)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if step % _REPORT_EVERY == 0 or step in (1, release.fit_steps):
            value = float(loss.detach())
            if not np.isfinite(value):
                raise TrainingError(
                    "the generator's loss became infinite: lower release.fit_learning_rate"
                )
            yield FitStep(
                step=step,
                num_steps=release.fit_steps,
                loss=value,
                seconds=time.perf_counter() - started,
            )
    network.eval()


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch with ``count`` threads: part of what makes sums repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
