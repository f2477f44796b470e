"""What the demo costs, counted in training images, and how well its samples can be read.

    phoenix-secure data fetch mnist                  # once: the judge learns to read from it
    python benchmarks/demo.py                        # the demo
    python benchmarks/demo.py demo_plain --json      # another file of settings

Machines differ threefold, so processor time alone says little. The same process that starts the
demo trains the ``tiny`` preset at 28x28 for a few hundred images before and after it, and divides:
the cost is "as much as training so many images". Training, samples, evaluation, audit and report
all count; the judge, which reads 1,000 samples that the finished model draws, does not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import phoenix_secure as ps
from phoenix_secure.config_file import load_config
from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.data.sources import load_images
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import PhoenixError
from phoenix_secure.experiments.readability import Judge, load_judge, readability
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalTrainer
from phoenix_secure.training.parameters import to_vector

BAR_IMAGES = 25_000
BAR_READABLE, BAR_KID = 0.9, 0.8
NUM_JUDGED = 1000
_BATCH = 16  # of the demo without privacy


def tiny_cpu_seconds(*, num_images: int) -> float:
    """Processor seconds of training one image with the ``tiny`` preset, as sites are trained."""
    sites, steps = num_cores(), max(1, num_images // (_BATCH * num_cores()))
    config = load_config(
        None,
        [
            "model.preset=tiny",
            f"training.batch_size={_BATCH}",
            f"training.local_steps={steps}",
            "device=cpu",
        ],
    )
    digits = load_images("mnist-5k", cache_dir=default_cache_dir()).images[:800]
    images = SiteImages(images=digits, labels=None)
    network = build_unet(config.model, image_size=28, channels=1, num_classes=10, seeds=SeedTree(0))
    start = to_vector(network)
    trainer = LocalTrainer(config, num_classes=10, device=torch.device("cpu"))

    def train(number: int) -> None:
        seeds = SeedTree(0).child("site", number)
        trainer.train(start, images, round_number=1, seeds=seeds)

    torch.set_num_threads(1)
    with ThreadPoolExecutor(sites) as pool:
        before = time.process_time()
        list(pool.map(train, range(sites)))
        return (time.process_time() - before) / (sites * steps * _BATCH)


def run_demo(settings: str, overrides: list[str], *, folder: Path) -> dict[str, float]:
    """Wall and processor seconds of the whole command, in a process of its own."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "phoenix_secure", "run", settings, *overrides]
    subprocess.run([*command, "--run-dir", str(folder)], check=True, stdout=sys.stderr)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - started, "cpu_seconds": used}


def quality_of(folder: Path, judge: Judge) -> dict[str, Any]:
    """What the finished run says of its samples, and what the judge does."""
    summary = read_summary(folder)
    samples = ps.sample(folder, NUM_JUDGED, seed=1).images
    found = readability(to_unit_range(samples), judge.classifier)
    generated = {} if summary.quality is None else summary.quality["rows"]["generated"]
    return {
        "readable": found.share,
        "readable_real": judge.real.share,
        "judge_accuracy": judge.accuracy,
        "classes": list(found.histogram),
        "kid": generated.get("kid"),
        "kid_std": generated.get("kid_std"),
        "recall": generated.get("recall"),
        "coverage": generated.get("coverage"),
        "secure_aggregation": "off" if summary.secure is None else "on",
        "guarantee": (summary.guarantee or {}).get("text"),
        "signed_report": (folder / "report" / "report.dsse.json").exists(),
    }


def measure(
    settings: str, overrides: list[str], *, folder: Path, num_images: int
) -> dict[str, Any]:
    """One row.

    Raises:     DataError where the judge cannot be trained.
    """
    judge = load_judge("mnist", cache_dir=default_cache_dir(), device=torch.device("cpu"))
    tiny_cpu_seconds(num_images=64)  # allocation and the choice of kernels
    tiny = [tiny_cpu_seconds(num_images=num_images)]
    cost = run_demo(settings, overrides, folder=folder)
    tiny.append(tiny_cpu_seconds(num_images=num_images))
    a_image = float(np.mean(tiny))
    return {
        "settings": " ".join([settings, *overrides]),
        **{name: round(value, 1) for name, value in cost.items()},
        "tiny_ms_per_image": [round(1000 * each, 3) for each in tiny],
        "cost_in_images": round(cost["cpu_seconds"] / a_image),
        "bar_in_images": BAR_IMAGES,
        **quality_of(folder, judge),
    }


def report(row: dict[str, Any]) -> None:
    """The row, with the bars beside it."""
    cost = row["cost_in_images"]
    print(f"{row['settings']}: {row['seconds']} s, {row['cpu_seconds']} s of processor time")
    print(f"  as much as training {cost:,} images of the tiny preset (bar: {BAR_IMAGES:,})")
    print(
        f"  readable {row['readable']:.1%} (bar {BAR_READABLE:.0%}; real digits "
        f"{row['readable_real']:.1%}; the judge reads {row['judge_accuracy']:.1%} of MNIST's test)"
    )
    print(f"  images of each class {row['classes']}")
    print(f"  KID {row['kid']:.3f} +- {row['kid_std']:.3f} (bar {BAR_KID})")
    print(f"  secure aggregation {row['secure_aggregation']}; {row['guarantee']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="?", default="demo")
    parser.add_argument("overrides", nargs="*", help="changes such as release.fit_steps=100")
    parser.add_argument("--calibrate", type=int, default=640, help="images of each calibration")
    parser.add_argument("--run-dir", type=Path, help="keep the run here; default: thrown away")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            row = measure(
                arguments.settings,
                arguments.overrides,
                folder=arguments.run_dir or Path(temporary) / "run",
                num_images=arguments.calibrate,
            )
    except PhoenixError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    row["machine"] = {"cores": num_cores(), "load_average": round(os.getloadavg()[0], 2)}
    if arguments.json:
        print(json.dumps(row))
    else:
        report(row)


if __name__ == "__main__":
    main()
