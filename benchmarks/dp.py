"""CPU time and memory of one DP-SGD step: each way to single images' gradients against plain SGD.

Time: one process and one thread, in which the ways take a step in turn; of every turn the ratio to
the plain step beside it, of those the median, so that other work on the machine changes little.
Memory: a process for each way; what it needed at its peak above what it needed before the first
step. A plain step takes its images in the same chunks.

    python benchmarks/dp.py                                    # tiny, tiny-s2d, small
    python benchmarks/dp.py --batch-size 128 --rows 4          # four noise draws of each image
    python benchmarks/dp.py --presets base --batch-size 32 --json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

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

WAYS = ("plain", "layers", "vmap")
SIZES = {"tiny": 28, "tiny-s2d": 28, "small": 32, "base": 32, "cifar10": 32}
TIME_AIM, MEMORY_AIM = 1.3, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a step works on; ``rows`` are the regression problems of each image."""

    preset: str
    batch_size: int
    chunk: int
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one way costs; ratios are to plain."""

    preset: str
    way: str
    parameters: int
    cpu_s: float
    time_ratio: float
    mib: float
    memory_ratio: float


def step_of(step: Step, way: str) -> tuple[Callable[[], None], int]:
    """One optimizer step, and the number of parameters."""
    config = load_config(None, [f"model.preset={step.preset}"])
    size, factor = SIZES[step.preset], config.model.space_to_depth
    network = build_unet(
        config.model, image_size=size, channels=1, num_classes=0, seeds=SeedTree(0)
    )
    objective = Objective(config.diffusion, device=torch.device("cpu"))
    generator = SeedTree(0).torch()
    images = torch.rand(step.batch_size, 1, size, size, generator=generator) * 2 - 1
    folded = torch.nn.functional.pixel_unshuffle(images, factor)
    chunks = folded.repeat_interleave(step.rows, 0).split(step.chunk * step.rows)
    inner = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def plain() -> None:
        inner.zero_grad()
        for part in chunks:
            loss = objective.loss(
                lambda x, t, y: network(x, t).sample, part, None, generator=generator
            )
            (loss.sum() / len(folded) / step.rows).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        inner.step()

    if way == "plain":
        return plain, num_parameters(network)
    gradients = make_gradients(way, network, physical_batch=step.chunk)
    randomness = SecureRandomness()
    optimizer = PrivateOptimizer(
        inner,
        noise_multiplier=1.0,
        clip_norm=1.0,
        divisor=step.batch_size,
        randomness=randomness,
    )

    def private() -> None:
        for part in chunks:
            pair = objective.secret_pair(part, draws=randomness)
            shape = (len(part) // step.rows, step.rows)
            rows = ImageRows(
                inputs=pair.inputs.view(*shape, *part.shape[1:]),
                times=pair.times.view(shape),
                target=pair.target.view(*shape, *part.shape[1:]),
                weight=pair.weight.view(shape),
                labels=None,
            )
            gradients.accumulate(rows, clip_norm=1.0)
        optimizer.private_step()

    return private, num_parameters(network)


def seconds_in_turn(step: Step, ways: list[str], turns: int) -> list[list[float]]:
    """CPU seconds of each way's step, by turn."""
    torch.set_num_threads(1)
    steps = [step_of(step, way)[0] for way in ways]
    for run in steps:  # pays for allocation and kernel selection
        run()
    found = []
    for _ in range(turns):
        turn = []
        for run in steps:
            started = time.process_time()
            run()
            turn.append(time.process_time() - started)
        found.append(turn)
    return found


def memory(step: Step, way: str) -> tuple[float, int]:
    """MiB at the peak of two steps above the start, and the number of parameters."""
    torch.set_num_threads(1)
    run, size = step_of(step, way)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / 1024, size


def measure(step: Step, ways: list[str], *, turns: int) -> list[Row]:
    """Every way's costs; ``ways`` begins with plain."""
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1) as pool:
        seconds = pool.apply(seconds_in_turn, (step, ways, turns))
    rows: list[Row] = []
    for place, way in enumerate(ways):
        with fresh.Pool(1) as pool:
            mib, size = pool.apply(memory, (step, way))
        rows.append(
            Row(
                preset=step.preset,
                way=way,
                parameters=size,
                cpu_s=min(turn[place] for turn in seconds),
                time_ratio=statistics.median(turn[place] / turn[0] for turn in seconds),
                mib=mib,
                memory_ratio=mib / max(rows[0].mib if rows else mib, 1.0),
            )
        )
    return rows


def print_table(rows: list[Row], *, title: str) -> None:
    table = Table(title=title)
    for column in ("preset", "parameters", "way", "CPU s", "x plain", "MiB", "x plain", "aims met"):
        table.add_column(column, justify="left" if column in ("preset", "way") else "right")
    for row in rows:
        met = row.time_ratio <= TIME_AIM, row.memory_ratio <= MEMORY_AIM
        table.add_row(
            row.preset,
            f"{row.parameters:,}",
            row.way,
            f"{row.cpu_s:.3f}",
            f"{row.time_ratio:.2f}",
            f"{row.mib:.0f}",
            f"{row.memory_ratio:.2f}",
            "-" if row.way == "plain" else " ".join("yes" if aim else "no" for aim in met),
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--presets", nargs="+", default=["tiny", "tiny-s2d", "small"], choices=SIZES
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS[1:]), choices=WAYS[1:])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=32, help="privacy.physical_batch")
    parser.add_argument("--rows", type=int, default=1, help="privacy.noise_draws")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for preset in arguments.presets:
        step = Step(
            preset=preset,
            batch_size=arguments.batch_size,
            chunk=arguments.chunk,
            rows=arguments.rows,
        )
        rows += measure(step, ["plain", *arguments.ways], turns=arguments.turns)
    if arguments.json:
        aims = {"time_ratio": TIME_AIM, "memory_ratio": MEMORY_AIM}
        found = [asdict(row) for row in rows]
        print(json.dumps({"machine": platform.processor(), "aims": aims, "rows": found}))
        return
    size = f"one step of {arguments.batch_size} images x {arguments.rows} rows"
    aims = f"aims: {TIME_AIM} x time, {MEMORY_AIM} x memory"
    print_table(rows, title=f"{size}, {arguments.chunk} at once, 1 thread; {aims}")


if __name__ == "__main__":
    main()
