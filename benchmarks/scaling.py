"""How time and memory grow: with parameters, with sites, with images; slopes of log-log plots.

    python benchmarks/scaling.py                       # up to 35.7 M parameters and 80 sites
    python benchmarks/scaling.py --most 8000000 --json
    python benchmarks/scaling.py --plot docs/results/scaling.png --csv docs/results/scaling.csv

- parameters: a secure round of five sites in one process (benchmarks/large_round.py), its CPU
  seconds and the peak of memory above the start;
- sites: the same with 40,000 parameters; keys apart, whose number grows with the square of the
  sites: the stage in which they are agreed on and shared out is told by its own row;
- images: one pass of local training (`tiny`, batches of 32) over more and more images.

A slope is that of the line through the larger half of the points, in logarithms: 1 is linear.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from machine import calibration, cpu_name, high_water_mark

from phoenix_secure.config_file import load_config
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import to_vector

PARAMETERS = (40_000, 160_000, 640_000, 2_700_000, 8_000_000, 35_700_000)
SITES = (5, 10, 20, 40, 80)
IMAGES = (250, 500, 1000, 2000, 4000)
FEW_PARAMETERS = 40_000
KEYS = ("announce", "share")  # stages


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measurement, in a process of its own; ``unit`` of ``value`` is s or bytes."""

    series: str
    along: str
    size: int
    value: float
    unit: str


def child(*arguments: str) -> dict[str, object]:
    """The JSON that this script prints for one measurement."""
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def secure_round(num_parameters: int, num_sites: int) -> dict[str, object]:
    """CPU seconds of a round and of its key stages, and bytes above the start."""
    from federation import Parties, run_round

    from phoenix_secure.federation.round.messages import TrainRequest

    with tempfile.TemporaryDirectory() as path:
        parties = Parties(Path(path), num_sites=num_sites, num_parameters=num_parameters)
        with parties.aggregator(secure=True) as aggregator:
            state, before = parties.state, high_water_mark()
            for number in (1, 2):  # the first pays for allocation
                request = TrainRequest(round_number=number, parameters=state.parameters)
                started = time.process_time()
                found, reports, wall = run_round(aggregator, request, parties.names)
                cpu = time.process_time() - started
                state = found.state
    # Wall time of a stage, as its share of the round's.
    keys = sum(each.seconds for each in reports if each.stage in KEYS)
    return {"cpu_s": cpu, "keys_s": cpu * keys / wall, "bytes": high_water_mark() - before}


def local_pass(num_images: int) -> dict[str, object]:
    """CPU seconds of one pass over as many images."""
    config = load_config(
        None,
        [
            *("model.preset=tiny", "model.class_conditional=false", "training.batch_size=32"),
            *(f"training.local_steps={max(1, num_images // 32)}", "device=cpu"),
        ],
    )
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (num_images, 1, 28, 28), dtype=np.uint8)
    network = build_unet(config.model, image_size=28, channels=1, num_classes=10, seeds=SeedTree(0))
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))
    start = to_vector(network)
    before, started = high_water_mark(), time.process_time()
    trainer.train(start, SiteImages(images=images, labels=None), round_number=1, seeds=SeedTree(0))
    return {"cpu_s": time.process_time() - started, "bytes": high_water_mark() - before}


def points(most: int) -> Iterator[Point]:
    for size in (each for each in PARAMETERS if each <= most):
        found = child("--round", str(size), "5")
        yield Point(series="a round", along="parameters", size=size, value=found["cpu_s"], unit="s")
        yield Point(
            series="a round", along="parameters", size=size, value=found["bytes"], unit="bytes"
        )
    for size in SITES:
        found = child("--round", str(FEW_PARAMETERS), str(size))
        rest = found["cpu_s"] - found["keys_s"]
        yield Point(series="keys aside", along="sites", size=size, value=rest, unit="s")
        yield Point(series="keys", along="sites", size=size, value=found["keys_s"], unit="s")
        yield Point(series="a round", along="sites", size=size, value=found["bytes"], unit="bytes")
    for size in IMAGES:
        found = child("--pass", str(size))
        yield Point(series="a pass", along="images", size=size, value=found["cpu_s"], unit="s")


def slopes(found: Sequence[Point]) -> dict[str, float]:
    """Of every series, through its larger half."""
    lines: dict[str, list[Point]] = {}
    for point in found:
        lines.setdefault(f"{point.series} along {point.along}, {point.unit}", []).append(point)
    rising = {}
    for name, line in lines.items():
        upper = sorted(line, key=lambda point: point.size)[len(line) // 2 - 1 :]
        rows = np.log([(point.size, max(point.value, 1e-9)) for point in upper])
        rising[name] = float(np.polyfit(rows[:, 0], rows[:, 1], 1)[0])
    return rising


def plot(found: Sequence[Point], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rising = slopes(found)
    figure, panels = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
    wanted = (("parameters", "s"), ("parameters", "bytes"), ("sites", "s"), ("images", "s"))
    for panel, (along, unit) in zip(panels, wanted, strict=True):
        for series in dict.fromkeys(p.series for p in found if (p.along, p.unit) == (along, unit)):
            line = [p for p in found if (p.series, p.along, p.unit) == (series, along, unit)]
            slope = rising[f"{series} along {along}, {unit}"]
            panel.loglog(
                [p.size for p in line],
                [p.value for p in line],
                "o-",
                label=f"{series}: slope {slope:.2f}",
            )
        panel.set(xlabel=along, ylabel="CPU seconds" if unit == "s" else "peak bytes")
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--most", type=int, default=PARAMETERS[-1], help="parameters")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--round", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pass", dest="images", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round:
        print(json.dumps(secure_round(*options.round)))
        return
    if options.images:
        print(json.dumps(local_pass(options.images)))
        return
    found = []
    for point in points(options.most):
        found.append(point)
        if not options.json:
            print(json.dumps(asdict(point)), flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, [each.name for each in fields(Point)])
            writer.writeheader()
            writer.writerows(asdict(point) for point in found)
    if options.plot is not None:
        plot(found, options.plot)
    facts = {
        "slopes": slopes(found),
        "calibration_s": calibration(),
        "cpu": cpu_name(),
        "load_average_1min": os.getloadavg()[0],
    }
    print(json.dumps({"points": [asdict(p) for p in found], **facts} if options.json else facts))


if __name__ == "__main__":
    main()
