"""What it is worth that freed memory stays with the process.

    python benchmarks/freed_memory.py            # both presets, about a minute of one core

Steps of 64 images of 28x28, glibc's own way first, then with ``memory.keep_freed_memory``, in one
process: CPU seconds of a step, the system's share of them, page faults, and the peak of memory.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable

import torch

from phoenix_secure.config_file import load_config
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.memory import keep_freed_memory
from phoenix_secure.rng import SeedTree


def step_of(preset: str) -> Callable[[], None]:
    """One training step of a preset, on noise."""
    config = load_config(None, [f"model.preset={preset}"])
    network = build_unet(config.model, image_size=28, channels=1, num_classes=0, seeds=SeedTree(0))
    optimizer = torch.optim.Adam(network.parameters())
    images, times = torch.randn(64, 1, 28, 28), torch.randint(0, 1000, (64,))

    def step() -> None:
        optimizer.zero_grad()
        (network(images, times).sample - images).square().mean().backward()
        optimizer.step()

    return step


def measure(step: Callable[[], None], *, count: int) -> tuple[float, float, float]:
    """Seconds of a step, those of the system among them, and page faults."""
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(count):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    system = (after.ru_stime - before.ru_stime) / count
    user = (after.ru_utime - before.ru_utime) / count
    return user + system, system, (after.ru_minflt - before.ru_minflt) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object: the ratios")
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps = {preset: step_of(preset) for preset in given.presets}
    without = {preset: measure(step, count=given.steps) for preset, step in steps.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if not keep_freed_memory():
        raise SystemExit("the environment or the system sets the allocator: nothing to compare")
    ratios = {}
    for preset, step in steps.items():
        kept, before = measure(step, count=given.steps), without[preset]
        ratios[preset] = before[0] / kept[0]
        if given.json:
            continue
        print(
            f"{preset}: {before[0]:.3f} s a step, {before[1]:.3f} of the system, {before[2]:.0f} "
            f"page faults; kept {kept[0]:.3f} s, {kept[1]:.3f}, {kept[2]:.0f}; ratio "
            f"{ratios[preset]:.2f}"
        )
    if given.json:
        print(json.dumps(ratios))
        return
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak {peak / 1024:.0f} MB before, {now / 1024:.0f} MB after")


if __name__ == "__main__":
    main()
