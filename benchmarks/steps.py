"""Sums of gradients: CPU seconds of one step by part, and what sharing the noise is worth.

python benchmarks/steps.py          # ten sites, 160,401 parameters: a minute
python benchmarks/steps.py --loss   # digits, ten sites with two labels each, 40 steps: minutes
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.privacy import make_trainer, site_noise_entropy
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradient_sums import GradientSummer
from phoenix_secure.training.parameters import load_vector

BASE = [
    *("data.name=digits", "partition.num_sites=10", "partition.scheme=shards"),
    *("model.attention=[false]", "model.mid_attention=false", "diffusion.prediction=v"),
    *("federation.server_optimizer=fedadam", "training.local_steps=1", "training.warmup_steps=0"),
    *("training.lr_decay=none", "training.batch_size=28", "secure_aggregation.word_bits=32"),
    *("evaluation.num_images=0", "output.samples_every_rounds=0", "output.num_samples=4"),
    *("sampling.num_steps=2", "ema.decay=0.95", "device=cpu", "federation.workers=1"),
]
PRIVATE = [
    *("privacy.unit=record", "privacy.epsilon=3", "privacy.delta=1e-4"),
    *("privacy.sampling_rate=0.2", "privacy.clip_norm=0.5", "privacy.physical_batch=40"),
]
GRADIENTS = ["federation.exchange=gradients", "training.learning_rate=0.01"]
PLAIN = [*GRADIENTS, "training.grad_clip=null", "secure_aggregation.clip_value=8"]
SUM = [*GRADIENTS, *PRIVATE, "privacy.trust=sum"]
# The same step by the same server optimizer, each site with all of its noise.
LOCAL = [*PRIVATE, "training.optimizer=sgd", "training.learning_rate=1"]
LOCAL += ["federation.server_learning_rate=0.01"]


def sites_of(*overrides: str) -> SimulatedSites:
    return SimulatedSites(load_config(None, [*BASE, *overrides]), cache_dir=default_cache_dir())


def cpu_seconds(work: Callable[[], object], *, repetitions: int = 8) -> float:
    """The mean of several after a first one, all threads together: samples differ in size."""
    work()
    started = time.process_time()
    for _ in range(repetitions):
        work()
    return (time.process_time() - started) / repetitions


def run(sites: SimulatedSites) -> tuple[ServerState, float]:
    """The last state, and the mean CPU seconds of a step after the first."""
    with tempfile.TemporaryDirectory() as name:
        federation, folder = Run(sites), RunFolder(Path(name) / "run")
        with folder.lock():
            times, last = [], time.process_time()
            for _ in federation.rounds(federation.start(folder, overwrite=True), folder):
                times.append(time.process_time() - last)
                last = time.process_time()
        return folder.load_state(config=sites.config), float(np.mean(times[1:]))


def print_cost() -> None:
    """One image a site and step in the mean: what is left is the price of the sum."""
    table = Table(title="CPU seconds of one step, ten sites, 160,401 parameters")
    for column in ("mode", "all", "gradients", "noise", "secure sum and the rest"):
        table.add_column(column, justify="right")
    network = ["model.block_channels=[16,32]", "model.attention=[false,false]"]
    network += ["model.layers_per_block=1", "model.class_conditional=true", "federation.rounds=8"]
    rare = ["privacy.sampling_rate=0.0075", "training.batch_size=1"]
    for mode, overrides in (("no privacy", PLAIN), ("trust sum", SUM)):
        sites = sites_of(*network, *overrides, *rare)
        terms = sites.terms
        assert terms is not None
        trainer = make_trainer(
            sites.config, sites.privacy, terms=terms, num_classes=10, device=torch.device("cpu")
        )
        work = trainer.sum if isinstance(trainer, GradientSummer) else trainer.train
        start, images = sites.strategies.start_vector(), sites.partition.site_images("site-01")
        gradients = 10 * cpu_seconds(
            lambda: work(start, images, round_number=1, seeds=SeedTree(0))  # noqa: B023
        )
        noise = 0.0
        if terms.noise is not None:
            variance = int(terms.noise.share_variance)
            entropy = site_noise_entropy(sites.config, SeedTree(0), site="site-01")(1)
            noise = 10 * cpu_seconds(
                lambda: draw_discrete_gaussian(
                    terms.num_words,  # noqa: B023
                    variance=variance,  # noqa: B023
                    entropy=entropy,  # noqa: B023
                )
            )
        _, whole = run(sites)
        parts = (whole, gradients, noise, whole - gradients - noise)
        table.add_row(mode, *(f"{part:.2f}" for part in parts))
    Console().print(table)


def print_loss(rounds: int) -> None:
    """Denoising loss of the averaged model on the images that no site holds."""
    table = Table(title=f"digits, ten sites with two label shards each, {rounds} steps")
    for column in ("mode", "epsilon", "noise multiplier", "loss on other images"):
        table.add_column(column, justify="right")
    for mode, overrides in (("no privacy", PLAIN), ("trust sum", SUM), ("site-local", LOCAL)):
        sites = sites_of("model.block_channels=[8]", f"federation.rounds={rounds}", *overrides)
        state, _ = run(sites)
        guarantee = sites.guarantee()
        loss = held_out_loss(sites, state.ema)
        table.add_row(mode, str(guarantee.epsilon), str(guarantee.noise_multiplier), f"{loss:.3f}")
    Console().print(table)


def held_out_loss(sites: SimulatedSites, weights: np.ndarray) -> float:
    images = sites.partition.image_set.images
    used = np.concatenate(list(sites.partition.parts.values()))
    others = images[np.setdiff1d(np.arange(len(images)), used)]
    x0 = torch.from_numpy(others).float() / 127.5 - 1
    network = build_unet(
        sites.config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0)
    )
    load_vector(network, weights)
    objective = Objective(sites.config.diffusion, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        losses = [
            objective.loss(
                lambda x, t, _: network(x, t).sample, x0, None, generator=generator
            ).mean()
            for _ in range(10)
        ]
    return float(torch.stack(losses).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.loss:
        print_loss(arguments.rounds)
    else:
        print_cost()


if __name__ == "__main__":
    main()
