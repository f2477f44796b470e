"""Images per second of local training: how sites are run here against plain eager float32.

Every preset is trained in several ways, in turn, several times over, in one run; the best of each
is compared. ``plain`` is one site with all CPU threads (or one GPU) and an unfused AdamW.

    python benchmarks/training.py                     # the CPU presets
    python benchmarks/training.py --presets cifar10 --batch-size 16 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet, num_parameters
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import to_vector

CPU_PRESETS = ("tiny", "tiny-s2d", "small", "base")


def plain(config: RunConfig, site: SiteImages, *, steps: int, device: torch.device) -> float:
    """The loop that anyone would write first; seconds for ``steps`` steps of one site."""
    torch.set_num_threads(num_cores())
    network = network_of(config, site).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, foreach=False, fused=False)
    objective = Objective(config.diffusion, device=device)
    generator = SeedTree(0).torch()
    factor = config.model.space_to_depth
    started = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first step also pays for allocation and kernel selection
            started = time.perf_counter()
        batch = torch.from_numpy(site.images[: config.training.batch_size]).to(device)
        x0 = torch.nn.functional.pixel_unshuffle(batch.float() / 127.5 - 1, factor)
        optimizer.zero_grad()
        loss = objective.loss(
            lambda x, t, y: network(x, t).sample, x0, None, generator=generator
        ).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def as_run(
    config: RunConfig, site: SiteImages, *, steps: int, devices: list[torch.device], sites: int
) -> float:
    """``sites`` sites side by side, as ``run`` does it; seconds for ``steps`` steps each."""
    torch.set_num_threads(config.federation.threads_per_site)
    start = to_vector(network_of(config, site))
    trainers = [LocalTrainer(config, num_classes=10, device=device) for device in devices]
    shorter = config.model_copy(
        update={"training": config.training.model_copy(update={"local_steps": 1})}
    )
    warm = [LocalTrainer(shorter, num_classes=10, device=device) for device in devices]

    def train(trainer: LocalTrainer, number: int) -> float:
        seeds = SeedTree(0).child("site", number)
        return trainer.train(start, site, round_number=1, seeds=seeds).seconds

    with ThreadPoolExecutor(sites) as pool:
        list(pool.map(lambda n: train(warm[n % len(warm)], n), range(sites)))
        list(pool.map(lambda n: train(trainers[n % len(trainers)], n), range(sites)))
        return max(pool.map(lambda n: train(trainers[n % len(trainers)], n), range(sites)))


def network_of(config: RunConfig, site: SiteImages) -> torch.nn.Module:
    return build_unet(
        config.model,
        image_size=site.images.shape[-1],
        channels=site.images.shape[1],
        num_classes=10,
        seeds=SeedTree(0),
    )


def ways_of(
    preset: str, site: SiteImages, *, batch_size: int, steps: int, with_compile: bool
) -> dict[str, tuple[Callable[[], float], int]]:
    """Name of each way -> (seconds for ``steps`` steps, sites that it trains)."""
    devices = pick_devices("auto")
    sites = num_cores() if devices[0].type == "cpu" else len(devices)

    def config(*overrides: str) -> RunConfig:
        base = [f"model.preset={preset}", f"training.local_steps={steps}"]
        return load_config(None, [*base, f"training.batch_size={batch_size}", *overrides])

    def run(*overrides: str) -> Callable[[], float]:
        return lambda: as_run(config(*overrides), site, steps=steps, devices=devices, sites=sites)

    ways: dict[str, tuple[Callable[[], float], int]] = {
        "plain": (lambda: plain(config(), site, steps=steps, device=devices[0]), 1),
        "as run": (run(), sites),
        "as run, channels_last": (run("training.channels_last=true"), sites),
    }
    if devices[0].type == "cuda":
        ways["as run, bfloat16"] = (run("training.autocast=bfloat16"), sites)
    if with_compile:
        ways["as run, compile"] = (run("training.compile=true"), sites)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=list(CPU_PRESETS))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also torch.compile (a minute more)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for preset in arguments.presets:
        size, channels = (32, 3) if preset == "cifar10" else (28, 1)
        images = load_images(
            "mnist-5k", image_size=size, channels=channels, cache_dir=default_cache_dir()
        ).images[: 4 * arguments.batch_size]
        site = SiteImages(images=np.array(images), labels=None)
        ways = ways_of(
            preset,
            site,
            batch_size=arguments.batch_size,
            steps=arguments.steps,
            with_compile=arguments.compile,
        )
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeats):
            for name, (measure, _) in ways.items():
                seconds[name].append(measure())
        work = arguments.steps * arguments.batch_size
        speed = {name: work * ways[name][1] / min(times) for name, times in seconds.items()}
        d = num_parameters(network_of(load_config(None, [f"model.preset={preset}"]), site))
        rows += [
            {
                "preset": preset,
                "parameters": d,
                "way": name,
                "images_per_s": round(value, 1),
                "ratio_to_plain": round(value / speed["plain"], 2),
            }
            for name, value in speed.items()
        ]
    report(rows, as_json=arguments.json)


def report(rows: list[dict[str, object]], *, as_json: bool) -> None:
    machine = {
        "cores": num_cores(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }
    if as_json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    table = Table(title=f"local training, {machine}")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("preset", "way") else "right")
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
