"""Measured times of a simulation's parts: for a dry run, and for the first lines of a run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from phoenix_secure.data.images import to_unit_range
from phoenix_secure.federation.round.cohort import cohort_size
from phoenix_secure.federation.run.released_model import ReleasedModel, ddpm_settings
from phoenix_secure.federation.secagg.estimate import estimate_seconds
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.privacy import make_trainer
from phoenix_secure.release.class_sums import ClassMeans
from phoenix_secure.release.classifier import LinearClassifier
from phoenix_secure.release.classifier_sums import ClassifierSummer
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.release.fitting import GeneratorFit
from phoenix_secure.release.generator import FittedGenerator
from phoenix_secure.release.layout import ReleaseLayout
from phoenix_secure.release.networks import GeneratorForm, build_generator
from phoenix_secure.release.refining import refinement
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.schedule import num_local_steps

__all__ = [
    "aggregation_seconds",
    "ddpm_seconds",
    "evaluation_seconds",
    "fit_seconds",
    "refinement_seconds",
    "run_seconds",
    "seconds_per_step",
    "training_seconds",
]

_CALIBRATION_S = 1.0  # of work that is like what follows
_LONGEST_S = 20.0  # a first step that takes so long is not repeated
_EXTRACTED = 32
_SETS = 4  # generated, reference, held-out, noise


def run_seconds(sites: SimulatedSites) -> float:
    """Seconds of training and evaluation on this machine, from about two of calibration."""
    layout = sites.strategies.release
    if layout is None:
        step_s = seconds_per_step(sites)
        learned = training_seconds(sites, step_s=step_s) + refinement_seconds(sites)
        return learned + evaluation_seconds(sites, step_s=step_s)
    learned = fit_seconds(sites, layout)
    if sites.config.release.then == "ddpm":
        learned += ddpm_seconds(sites)
    return aggregation_seconds(sites) + learned + evaluation_seconds(sites)


def training_seconds(sites: SimulatedSites, *, step_s: float) -> float:
    """Seconds of all rounds at ``step_s`` a local step, secure aggregation included."""
    config = sites.config
    sizes = [len(part) for part in sites.partition.parts.values()]
    steps = sum(num_local_steps(config.training, num_images=size) for size in sizes)
    waves = steps * cohort_size(config) / len(sizes) / sites.num_workers
    return config.federation.rounds * (waves * step_s + aggregation_seconds(sites))


def seconds_per_step(sites: SimulatedSites) -> float:
    """Seconds of one local step on the first device."""
    config = sites.config
    images = sites.partition.site_images(sites.sites[0])
    seeds = SeedTree(config.seed).child("timing")
    found = 0.0
    # The first one also pays for allocation and kernel selection: ten times a step's price.
    for steps in (1, 1) if config.federation.exchange == "gradients" else (1, 3):
        shorter = config.training.model_copy(
            update={"local_steps": steps, "local_epochs": None, "compile": False}
        )
        trainer = make_trainer(
            config.model_copy(update={"training": shorter}),
            sites.privacy,
            terms=sites.terms,
            num_classes=sites.partition.image_set.num_classes,
            device=sites.devices[0],
        )
        work: Callable[..., object]
        if isinstance(trainer, GradientSummer | ClassifierSummer):
            work = trainer.sum
        else:
            work = trainer.train
        started = time.perf_counter()
        work(sites.strategies.start_vector(), images, round_number=1, seeds=seeds)
        seconds = time.perf_counter() - started
        found = seconds / steps
        if seconds > _LONGEST_S:
            break
    return found


def ddpm_seconds(sites: SimulatedSites) -> float:
    """Seconds of training a DDPM on generated images, from three steps on real ones, whose result
    is thrown away."""
    config = ddpm_settings(sites.config)
    images, model = sites.partition.site_images(sites.sites[0]), sites.model
    if not isinstance(model, ReleasedModel) or model.ddpm is None:
        raise ValueError("expected a release with a DDPM")
    steps = num_local_steps(config.training, num_images=config.release.then_images)
    few = config.training.model_copy(update={"local_steps": 3, "local_epochs": None})
    trainer = LocalTrainer(
        config.model_copy(update={"training": few}),
        num_classes=sites.partition.image_set.num_classes,
        device=sites.devices[0],
    )
    seeds = SeedTree(config.seed).child("timing")
    start = model.ddpm.initial_parameters
    seconds = trainer.train(start, images, round_number=1, seeds=seeds).seconds
    return seconds / 3 * steps


def fit_seconds(sites: SimulatedSites, layout: ReleaseLayout) -> float:
    """Seconds of the generator's fit, from steps towards means that say nothing."""
    form = GeneratorForm(
        channels=layout.channels,
        image_size=layout.image_size,
        num_classes=layout.num_classes,
        latent_size=layout.release.latent_size,
        num_networks=layout.release.generators,
    )
    seeds = SeedTree(sites.config.seed)
    shape = layout.num_classes, layout.num_features
    fit = GeneratorFit(
        build_generator(form, seeds=seeds).to(sites.devices[0]),
        ClassMeans(means=np.zeros(shape), counts=np.ones(shape[0])),
        FeatureMap(layout, seeds=seeds),
        known=tuple(range(shape[0])),
        seeds=seeds,
        num_threads=sites.config.federation.threads_per_site,
    )
    return _seconds_of_fit(fit)


def refinement_seconds(sites: SimulatedSites) -> float:
    """Seconds of a generator's last steps, from some of one that was never fitted; 0 without."""
    config, images = sites.config, sites.partition.image_set
    if config.sampling.refine_steps == 0:
        return 0.0
    seeds = SeedTree(config.seed)
    form = GeneratorForm(
        channels=images.channels,
        image_size=images.image_size,
        num_classes=images.num_classes,
        latent_size=config.release.latent_size,
        num_networks=config.release.generators,
    )
    fit = refinement(
        FittedGenerator(
            network=build_generator(form, seeds=seeds).to(sites.devices[0]),
            class_names=images.class_names,
            known=tuple(range(images.num_classes)),
            sum_sha256="",
        ),
        LinearClassifier(
            np.zeros(sites.strategies.exchange.num_parameters),
            channels=images.channels,
            image_size=images.image_size,
            num_classes=images.num_classes,
        ),
        num_steps=config.sampling.refine_steps,
        weight=config.sampling.refine_weight,
        seeds=seeds,
        num_threads=config.federation.threads_per_site,
    )
    return _seconds_of_fit(fit)


def _seconds_of_fit(fit: GeneratorFit) -> float:
    fit.advance()  # also pays for allocation and kernel selection
    started = time.perf_counter()
    while fit.step == 1 or time.perf_counter() - started < _CALIBRATION_S:
        fit.advance()
    return (time.perf_counter() - started) / (fit.step - 1) * fit.num_steps


def evaluation_seconds(sites: SimulatedSites, *, step_s: float | None = None) -> float:
    """Seconds of sampling and comparing at the end; ``step_s`` of training, for a diffusion model:
    an image's way forward is a third of a training step's."""
    evaluator, config = sites.evaluator, sites.config
    if evaluator is None:
        return 0.0
    images = sites.partition.image_set.images[:_EXTRACTED]
    started = time.perf_counter()
    evaluator.extract(to_unit_range(images))
    extract_s = (time.perf_counter() - started) / len(images)
    num_images = evaluator.num_images
    found = num_images * _SETS * extract_s
    if step_s is not None:
        passes = config.sampling.num_steps * (1 if config.sampling.guidance_scale == 1 else 2)
        found += num_images * passes * step_s / config.images_per_step / 3
    return found


def aggregation_seconds(sites: SimulatedSites) -> float:
    """Seconds of one round's secure aggregation; 0 where it is off."""
    if sites.terms is None:
        return 0.0
    return estimate_seconds(sites.terms, num_workers=sites.num_workers)
