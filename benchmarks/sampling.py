"""1,000 samples against diffusers' own DDIM loop: CPU time, and the Frechet distance of both.

    phoenix-secure data fetch mnist
    python benchmarks/sampling.py                           # trains the `tiny` preset first
    python benchmarks/sampling.py --images 200 --steps 200 --features pixels

Ours: ``sampling.sampler=dpm-solver`` with 15 steps, on single-threaded workers. Theirs:
DDIMPipeline with 50 steps, batches of 128, torch's threads. Both sample in turn from the same
network and the same first noise. The distance is to real digits that were not trained on, for each
seed of the noise: so one sees how much it moves by itself. The network's time does not depend on
its weights, and little training is enough for a ratio of times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDIMPipeline
from machine import calibration, cpu_name, print_row

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.sampling import build_pipeline, sample_images
from phoenix_secure.diffusion.schedule import sampling_scheduler
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.metrics.features import efficientnet_lite0
from phoenix_secure.metrics.frechet import frechet_distance
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import load_vector, to_vector
from phoenix_secure.workers import workers

CPU = torch.device("cpu")
DDIM_STEPS, BATCH = 50, 128


def trained(config: RunConfig, digits: np.ndarray) -> torch.nn.Module:
    """The network after ``training.local_steps`` steps of one site."""
    network = build_unet(config.model, image_size=28, channels=1, num_classes=10, seeds=SeedTree(0))
    trainer = LocalTrainer(config, num_classes=10, device=CPU)
    site, start = SiteImages(images=digits, labels=None), to_vector(network)
    found = trainer.train(start, site, round_number=1, seeds=SeedTree(1))
    load_vector(network, start + found.delta)
    return network.eval()


def ours(network: torch.nn.Module, config: RunConfig, num_images: int, seed: int) -> np.ndarray:
    with workers(num_cores()):
        return sample_images(
            build_pipeline(network, config),
            num_images=num_images,
            sampling=config.sampling,
            generator=torch.Generator().manual_seed(seed),
        )


def theirs(network: torch.nn.Module, config: RunConfig, num_images: int, seed: int) -> np.ndarray:
    pipeline = DDIMPipeline(network, sampling_scheduler(config.diffusion, sampler="ddim"))
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    parts = [
        pipeline(
            batch_size=min(BATCH, num_images - start),
            generator=generator,
            num_inference_steps=DDIM_STEPS,
            output_type="np",
        ).images.transpose(0, 3, 1, 2)
        for start in range(0, num_images, BATCH)
    ]
    return np.concatenate(parts) * 2 - 1


def pixels(images: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, (N, 196): cheap, and no network's opinion."""
    values = images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4))
    return values.reshape(len(images), -1).astype(np.float64)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Times and distances of one network."""
    config = load_config(
        None,
        [
            "model.preset=tiny",
            "model.class_conditional=false",
            "sampling.sampler=dpm-solver",
            f"sampling.num_steps={options.solver_steps}",
            f"sampling.batch_size={BATCH}",
            "training.batch_size=32",
            "training.learning_rate=0.001",
            f"training.local_steps={options.steps}",
            "device=cpu",
        ],
    )
    torch.set_num_threads(num_cores())
    digits = load_images(options.data, cache_dir=default_cache_dir()).images
    held_out, members = digits[: options.images], digits[options.images :]
    network = trained(config, members)
    ways: dict[str, Callable[..., np.ndarray]] = {"ours": ours, "theirs": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for sample in ways.values():  # pays for allocation and kernel selection
        sample(network, config, 16, seed=0)
    for seed in range(options.repetitions):
        for name, sample in ways.items():
            started = time.process_time()
            samples[name].append(sample(network, config, options.images, seed=seed))
            seconds[name].append(time.process_time() - started)
    extract = pixels
    if options.features == "lite0":
        network_features = efficientnet_lite0(device=CPU)

        def extract(images: np.ndarray) -> np.ndarray:
            return network_features(images).astype(np.float64)

    real = extract(to_unit_range(held_out))
    distance = {
        name: [frechet_distance(extract(images), real) for images in found]
        for name, found in samples.items()
    }
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return {
        "images": options.images,
        "training_steps": options.steps,
        "solver_steps": options.solver_steps,
        "features": options.features,
        "cpu_s": min(seconds["ours"]),
        "ddim_cpu_s": min(seconds["theirs"]),
        "time_ratio": statistics.median(ratios),
        "frechet": distance["ours"],
        "ddim_frechet": distance["theirs"],
        "frechet_ratio": float(np.mean(distance["ours"]) / np.mean(distance["theirs"])),
        "calibration_s": calibration(),
        "cpu": cpu_name(),
        "load_average_1min": os.getloadavg()[0],
    }


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=400, help="of training, 32 images each")
    parser.add_argument("--solver-steps", type=int, default=15)
    parser.add_argument("--repetitions", type=int, default=2, help="seeds of the first noise")
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--features", choices=["lite0", "pixels"], default="lite0")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.images < 16 or options.steps < 1 or options.repetitions < 1:
        parser.error("expected --images >= 16, --steps >= 1 and --repetitions >= 1")
    print_row(measure(options), as_json=options.json)


if __name__ == "__main__":
    main()
