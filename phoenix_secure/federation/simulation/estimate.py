"""Measured times of a simulation's parts, for a dry run."""

from __future__ import annotations

import time

from phoenix_secure.federation.secagg.estimate import estimate_seconds
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.privacy import make_trainer
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer

__all__ = ["aggregation_seconds", "seconds_per_step"]


def seconds_per_step(sites: SimulatedSites) -> float:
    """Seconds of one local step on the first device."""
    config = sites.config
    steps = 1 if config.federation.exchange == "gradients" else 3
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
    images = sites.partition.site_images(sites.sites[0])
    work = trainer.sum if isinstance(trainer, GradientSummer) else trainer.train
    seconds = 0.0
    for _ in range(2):  # the first one also pays for allocation and kernel selection
        started = time.perf_counter()
        work(
            sites.model.initial_parameters,
            images,
            round_number=1,
            seeds=SeedTree(config.seed).child("timing"),
        )
        seconds = time.perf_counter() - started
    return seconds / steps


def aggregation_seconds(sites: SimulatedSites) -> float:
    """Seconds of one round's secure aggregation; 0 where it is off."""
    if sites.terms is None:
        return 0.0
    return estimate_seconds(sites.terms, num_workers=sites.num_workers)
