"""CPU time and memory of one DP-SGD step: each way to single images' gradients against plain SGD.

Every (preset, mode) runs in a process of its own, one thread, several times in turn; the least CPU
time of each is compared, so that other work on the machine changes little. Memory is what the
process needed at its peak above what it needed before the first step.

    python benchmarks/dp.py                                    # tiny, tiny-s2d, small
    python benchmarks/dp.py --presets base --batch-size 32 --json
    python benchmarks/dp.py --against ../before                # another checkout, in turn with this
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.objective import Objective
from phoenix_secure.diffusion.unet import build_unet, num_parameters
from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.per_image import make_gradients
from phoenix_secure.privacy.private_optimizer import PrivateOptimizer
from phoenix_secure.privacy.randomness import SecureRandomness
from phoenix_secure.rng import SeedTree

MODES = ("plain", "vmap", "hooks")
SIZES = {"tiny": 28, "tiny-s2d": 28, "small": 32, "base": 32, "cifar10": 32}


def step_of(
    preset: str, mode: str, *, batch_size: int, chunk: int
) -> tuple[Callable[[], None], int]:
    """One optimizer step on ``batch_size`` images, and the number of parameters."""
    config = load_config(None, [f"model.preset={preset}"])
    size, factor = SIZES[preset], config.model.space_to_depth
    network = build_unet(
        config.model, image_size=size, channels=1, num_classes=0, seeds=SeedTree(0)
    )
    objective = Objective(config.diffusion, device=torch.device("cpu"))
    generator = SeedTree(0).torch()
    images = torch.rand(batch_size, 1, size, size, generator=generator) * 2 - 1
    x0 = torch.nn.functional.pixel_unshuffle(images, factor)
    inner = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def plain() -> None:
        inner.zero_grad()
        for start in range(0, batch_size, chunk):
            part = x0[start : start + chunk]
            loss = objective.loss(
                lambda x, t, y: network(x, t).sample, part, None, generator=generator
            )
            (loss.sum() / batch_size).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        inner.step()

    if mode == "plain":
        return plain, num_parameters(network)
    gradients = make_gradients(mode, network, physical_batch=chunk)
    randomness = SecureRandomness()
    optimizer = PrivateOptimizer(
        inner,
        noise_multiplier=1.0,
        clip_norm=1.0,
        divisor=batch_size,
        randomness=randomness,
    )

    def private() -> None:
        for start in range(0, batch_size, chunk):
            pair = objective.secret_pair(x0[start : start + chunk], draws=randomness)
            rows = ImageRows(
                inputs=pair.inputs[:, None],
                times=pair.times[:, None],
                target=pair.target[:, None],
                weight=pair.weight[:, None],
                labels=None,
            )
            gradients.accumulate(rows, clip_norm=1.0)
        optimizer.private_step()

    return private, num_parameters(network)


def measure(job: tuple[str, str, int, int, int]) -> dict[str, Any]:
    """Measure in a fresh process: least CPU seconds of a step, and MiB above the start."""
    preset, mode, batch_size, chunk, repeats = job
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    step, size = step_of(preset, mode, batch_size=batch_size, chunk=chunk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()  # pays for allocation and tracing
    times = []
    for _ in range(repeats):
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "preset": preset,
        "mode": mode,
        "parameters": size,
        "cpu_s": min(times),
        "mib": (peak - before) / 1024,
    }


def measure_there(checkout: Path, job: tuple[str, str, int, int, int]) -> dict[str, Any]:
    """The same by the benchmark, and the code, of another checkout."""
    preset, mode, batch_size, chunk, repeats = job
    options = {"--batch-size": batch_size, "--chunk": chunk, "--repeats": repeats, "--rounds": 1}
    command = [sys.executable, str(checkout / "benchmarks" / "dp.py"), "--json"]
    command += ["--presets", preset, "--modes", mode]
    command += [str(part) for pair in options.items() for part in pair]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    (row,) = json.loads(done.stdout.splitlines()[-1])["rows"]
    return {**row, "mode": f"{mode} there"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--presets", nargs="+", default=["tiny", "tiny-s2d", "small"], choices=SIZES
    )
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--chunk", type=int, default=32, help="privacy.physical_batch")
    parser.add_argument("--repeats", type=int, default=3, help="steps in one process")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each mode, in turn")
    parser.add_argument("--against", type=Path, help="another checkout of this repository")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    for _ in range(arguments.rounds):
        for preset in arguments.presets:
            for mode in arguments.modes:
                job = (preset, mode, arguments.batch_size, arguments.chunk, arguments.repeats)
                with context.Pool(1) as pool:
                    runs = [pool.apply(measure, (job,))]
                if arguments.against is not None and mode != "plain":
                    runs.append(measure_there(arguments.against, job))
                for one in runs:
                    best = found.setdefault((preset, one["mode"]), one)
                    best["cpu_s"] = min(best["cpu_s"], one["cpu_s"])
                    best["mib"] = min(best["mib"], one["mib"])
    rows = list(found.values())
    for row in rows:
        plain = found.get((row["preset"], "plain"))
        row["time_ratio"] = None if plain is None else row["cpu_s"] / plain["cpu_s"]
        row["memory_ratio"] = None if plain is None else row["mib"] / max(plain["mib"], 1.0)
    if arguments.json:
        print(json.dumps({"machine": platform.processor(), "rows": rows}))
        return
    table = Table(
        title=f"one step of {arguments.batch_size} images, {arguments.chunk} at once, 1 thread"
    )
    for column in ("preset", "parameters", "mode", "CPU s", "x plain", "MiB", "x plain"):
        table.add_column(column, justify="left" if column in ("preset", "mode") else "right")
    for row in rows:
        ratios = [
            "-" if row[name] is None else f"{row[name]:.2f}"
            for name in ("time_ratio", "memory_ratio")
        ]
        table.add_row(
            row["preset"],
            f"{row['parameters']:,}",
            row["mode"],
            f"{row['cpu_s']:.3f}",
            ratios[0],
            f"{row['mib']:.0f}",
            ratios[1],
        )
    Console().print(table)


if __name__ == "__main__":
    main()
