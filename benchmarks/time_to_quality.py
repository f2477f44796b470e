"""The KID that a plain diffusers loop reaches, and the share of its CPU time that we need for it.

    phoenix-secure data fetch mnist fashion-mnist
    python benchmarks/time_to_quality.py --seconds 600                  # both data sets: an hour
    python benchmarks/time_to_quality.py --trial "lr 4e-3: training.learning_rate=0.004" --only-ours

Theirs: UNet2DModel with the three levels of Hugging Face's diffusion course for 28x28 (32, 64, 64
channels, two layers each, attention at 14 and 7), trained as the script
`examples/unconditional_image_generation/train_unconditional.py` of diffusers does by default:
batches of 16, AdamW(1e-4, betas .95 and .999, weight decay 1e-6), 500 steps of warm-up (a tenth of
the steps where there are fewer than 5,000) and a cosine to zero, 1000 linear noise levels, epsilon,
gradients clipped at 1, EMA (power 3/4). The script's own network has 113.7 million parameters and
takes no 28x28. A second loop is what a patient user makes of it: a learning rate of 1e-3
(``--their-rates``).

Ours: one site's local training by a preset, with the server's EMA, in rounds of 40 steps.

Each contender is trained anew for its whole budget of CPU seconds, with its schedule to the end; we
get a third, a sixth and a twelfth of theirs. All sample 1,000 images by the same DPM-Solver++ from
the same noise, and KID is to as many held-out images. Training alone counts.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from machine import calibration, cpu_name

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images
from phoenix_secure.diffusion.ema import ema_decay, update_ema
from phoenix_secure.diffusion.sampling import build_pipeline, sample_images
from phoenix_secure.diffusion.unet import build_unet, num_parameters
from phoenix_secure.metrics.features import efficientnet_lite0
from phoenix_secure.metrics.kernel_distance import kernel_distance
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import load_vector, to_vector

CPU = torch.device("cpu")
FRACTIONS = (3, 6, 12)
STEPS_PER_ROUND = 40
PROBED_STEPS = 12  # to see what one costs
OURS = [
    *("model.preset=tiny", "model.class_conditional=false", "training.batch_size=16"),
    *("training.learning_rate=0.002", "training.warmup_steps=50", "device=cpu"),
]
SAMPLING = ["sampling.sampler=dpm-solver", "sampling.num_steps=20", "sampling.batch_size=128"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One training from its start to the end of its schedule."""

    data: str
    who: str
    budget_s: float
    cpu_s: float
    steps: int
    images: int
    parameters: int
    kid: float
    kid_deviation: float


class Judge:
    """KID of a model's samples to real images that nobody trained on."""

    def __init__(self, held_out: np.ndarray) -> None:
        self._features = efficientnet_lite0(device=CPU)
        self._real = self._features(to_unit_range(held_out)).astype(np.float64)

    def __call__(self, network: torch.nn.Module, config: RunConfig) -> tuple[float, float]:
        images = sample_images(
            build_pipeline(network.eval(), config),
            num_images=len(self._real),
            sampling=config.sampling,
            generator=torch.Generator().manual_seed(7),
        )
        return kernel_distance(
            self._features(images).astype(np.float64),
            self._real,
            subset_size=len(self._real) // 2,
            num_subsets=50,
            rng=np.random.default_rng(0),
        )


def batches(images: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    """Shuffled epochs without end."""
    rng = np.random.default_rng(3)
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - size + 1, size):
            index = np.sort(order[start : start + size])
            yield torch.from_numpy(images[index]).float() / 127.5 - 1


def theirs(images: np.ndarray, *, steps: int, rate: float) -> torch.nn.Module:
    torch.manual_seed(0)
    network: torch.nn.Module = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    noising = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
    )
    rates = get_cosine_schedule_with_warmup(optimizer, min(500, steps // 10), steps)
    average = EMAModel(
        network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )
    for _, x0 in zip(range(steps), batches(images, 16), strict=False):
        noise = torch.randn(x0.shape)
        times = torch.randint(1000, (len(x0),))
        found = network(noising.add_noise(x0, noise, times), times).sample
        torch.nn.functional.mse_loss(found, noise).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        average.step(network.parameters())
    average.copy_to(network.parameters())
    return network


def ours(images: np.ndarray, *, steps: int, config: RunConfig) -> torch.nn.Module:
    rounds = max(1, steps // STEPS_PER_ROUND)
    federation = config.federation.model_copy(update={"rounds": rounds})
    training = config.training.model_copy(update={"local_steps": min(steps, STEPS_PER_ROUND)})
    config = config.model_copy(update={"federation": federation, "training": training})
    network = build_unet(config.model, image_size=28, channels=1, num_classes=10, seeds=SeedTree(0))
    trainer = LocalTrainer(config, num_classes=10, device=CPU)
    site = SiteImages(images=images, labels=None)
    weights = to_vector(network)
    average = weights.copy()
    for number in range(rounds):
        seeds = SeedTree(1).child("round", number)
        weights = weights + trainer.train(weights, site, round_number=number + 1, seeds=seeds).delta
        decay = ema_decay(config.ema, num_updates=number, steps_per_round=training.local_steps or 1)
        average = update_ema(average, weights, decay=decay)
    load_vector(network, average)
    return network


def timed(
    train: Callable[[int], torch.nn.Module], budget_s: float
) -> tuple[torch.nn.Module, int, float]:
    """The network after about ``budget_s`` of CPU time, its steps, and the time it took."""
    train(2)  # pays for allocation and kernel selection
    started = time.process_time()
    train(PROBED_STEPS)
    steps = max(2, int(budget_s / (time.process_time() - started) * PROBED_STEPS))
    started = time.process_time()
    network = train(steps)
    return network, steps, time.process_time() - started


def contenders(options: argparse.Namespace) -> Iterator[tuple[str, float, RunConfig, float | None]]:
    """Name, seconds, settings, and their learning rate."""
    linear = ["diffusion.schedule=linear", "diffusion.prediction=epsilon", *SAMPLING]
    if not options.only_ours:
        for rate in options.their_rates:
            yield f"diffusers, rate {rate:g}", options.seconds, load_config(None, linear), rate
    trials = [text.partition(":")[::2] for text in options.trial] or [("ours", "")]
    for name, overrides in trials:
        config = load_config(None, [*OURS, *SAMPLING, *overrides.split()])
        for fraction in options.fractions:
            yield f"{name} / {fraction}", options.seconds / fraction, config, None


def measure(data: str, options: argparse.Namespace) -> Iterator[Row]:
    images = load_images(data, cache_dir=default_cache_dir()).images
    judge = Judge(images[: options.images])
    members = images[options.images :]
    for name, budget_s, config, rate in contenders(options):

        def train(
            steps: int, config: RunConfig = config, rate: float | None = rate
        ) -> torch.nn.Module:
            if rate is not None:
                return theirs(members, steps=steps, rate=rate)
            return ours(members, steps=steps, config=config)

        network, steps, cpu_s = timed(train, budget_s)
        kid, deviation = judge(network, config)
        yield Row(
            data=data,
            who=name,
            budget_s=budget_s,
            cpu_s=cpu_s,
            steps=steps,
            images=steps * (16 if rate is not None else config.training.batch_size),
            parameters=num_parameters(network),
            kid=kid,
            kid_deviation=deviation,
        )


def share_of_time(rows: list[Row], theirs: Row) -> float:
    """Our CPU time over theirs at their KID: between two budgets along a line in logarithms; not a
    number where no budget of ours reaches it, and an upper bound where the smallest does."""
    found = sorted((row for row in rows if row.who.startswith("ours")), key=lambda row: row.cpu_s)
    for before, after in zip([None, *found[:-1]], found, strict=True):
        if after.kid <= theirs.kid:
            if before is None or after.kid <= 0:
                return after.cpu_s / theirs.cpu_s
            share = np.log(before.kid / theirs.kid) / np.log(before.kid / after.kid)
            cpu_s = np.exp(np.log(before.cpu_s) + share * np.log(after.cpu_s / before.cpu_s))
            return float(cpu_s / theirs.cpu_s)
    return float("nan")


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU time of a diffusers loop")
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--images", type=int, default=1000, help="sampled, and held out")
    parser.add_argument("--their-rates", nargs="*", type=float, default=[1e-4, 1e-3])
    parser.add_argument("--fractions", nargs="+", type=int, default=list(FRACTIONS))
    parser.add_argument("--trial", action="append", default=[], help="NAME: SETTING=VALUE ...")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    options = parser.parse_args()
    if options.images < 100 or options.seconds <= 0:
        parser.error("expected --images >= 100 and --seconds > 0")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for data in options.data:
        for row in measure(data, options):
            rows.append(row)
            if not options.json:
                print(json.dumps(asdict(row)), flush=True)  # as they come
    shares = {
        f"{row.data}/{row.who.partition(', ')[2]}": share_of_time(
            [r for r in rows if r.data == row.data], row
        )
        for row in rows
        if row.who.startswith("diffusers")
    }
    found = {
        "rows": [asdict(row) for row in rows],
        "shares": shares,
        "calibration_s": calibration(),
        "cpu": cpu_name(),
        "load_average_1min": os.getloadavg()[0],
    }
    print(json.dumps(found if options.json else {k: v for k, v in found.items() if k != "rows"}))


if __name__ == "__main__":
    main()
