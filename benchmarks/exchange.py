"""When does which exchange win? KID over bytes for a release, updates and gradients.

    python benchmarks/exchange.py --out runs/exchange               # 24 runs, hours of one core
    python benchmarks/exchange.py --out runs/exchange --only shards

Ten sites of `mnist-5k` at 14x14. `updates-K` takes K local steps between two sums, `gradients` sums
every step; all take as many steps of as many images. The release fits its generator with eight
steps for each of those. Without privacy a release has epsilon 1000, the largest there is. Finished
runs are kept: the same command goes on where it was stopped, and writes docs/results/exchange.csv
and .png of what is there.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import phoenix_secure as ps
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.deployment_cost import ROUND_S
from phoenix_secure.files import write_bytes

SITES, BATCH, RATE = 10, 40, 0.1
COLUMNS = (
    "exchange",
    "privacy",
    "partition",
    "seed",
    "round",
    "megabytes_per_site",
    "waiting_hours",
    "kid",
    "frechet",
    "recall",
    "core_seconds",
)
BASE = [
    "data.name=mnist-5k",
    "data.image_size=14",
    f"partition.num_sites={SITES}",
    "partition.shards_per_site=2",
    "secure_aggregation.word_bits=32",
    "federation.workers=1",
    "output.samples_every_rounds=0",
]
NETWORK = [
    "model.block_channels=[16,32]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "model.layers_per_block=1",
    "model.class_conditional=true",
    "diffusion.prediction=v",
    "sampling.sampler=dpm-solver",
    "sampling.num_steps=15",
    f"training.batch_size={BATCH}",
    "training.warmup_steps=0",
    "training.lr_decay=none",
    "training.weight_decay=0",
    "ema.decay=0.95",
]
RECORD = ["privacy.unit=record", "privacy.delta=2e-5"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run. exchange: release, gradients or updates-K; epsilon None: without privacy."""

    exchange: str
    epsilon: float | None
    partition: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.exchange}-{self.privacy}-{self.partition}-{self.seed}".replace(" ", "-")

    @property
    def privacy(self) -> str:
        return "none" if self.epsilon is None else f"epsilon {self.epsilon:g}"

    def settings(self, *, steps: int, images: int) -> list[str]:
        found = [*BASE, f"partition.scheme={self.partition}", f"seed={self.seed}"]
        found.append(f"evaluation.num_images={images}")
        if self.exchange == "release":
            return [*found, *RECORD, *self._release(steps)]
        private = [] if self.epsilon is None else [*RECORD, f"privacy.epsilon={self.epsilon}"]
        if private:
            private += [f"privacy.sampling_rate={RATE}", "privacy.clip_norm=0.5"]
        local = 1 if self.exchange == "gradients" else int(self.exchange.rpartition("-")[2])
        rounds = -(-steps // local)
        found += [
            *NETWORK,
            *private,
            f"training.local_steps={local}",
            f"federation.rounds={rounds}",
        ]
        found.append(f"evaluation.every_rounds={max(1, rounds // 6)}")
        return [*found, *self._optimizer(local)]

    def _release(self, steps: int) -> list[str]:
        return [
            "federation.rounds=1",
            "privacy.trust=sum",
            f"privacy.epsilon={self.epsilon or 1000}",
            "release.features=hogpix",
            "release.num_features=2000",
            "release.max_images=4096",
            "release.fit_batch=100",
            f"release.fit_steps={8 * steps}",
        ]

    def _optimizer(self, local: int) -> list[str]:
        if self.exchange == "gradients":
            trust = [] if self.epsilon is None else ["privacy.trust=sum"]
            return [
                *trust,
                "federation.exchange=gradients",
                "federation.server_optimizer=fedadam",
                "training.learning_rate=0.01",
                "training.grad_clip=null",
                "secure_aggregation.clip_value=8",
            ]
        if local == 1:  # the same step of Adam, at the server
            return [
                "training.optimizer=sgd",
                "training.learning_rate=1",
                "federation.server_optimizer=fedadam",
                "federation.server_learning_rate=0.01",
            ]
        return ["training.learning_rate=0.002"]


def cases(*, epsilon: float, seed: int) -> list[Case]:
    exchanges = ["release", "gradients", *(f"updates-{k}" for k in (20, 80, 5, 1))]
    return [
        Case(exchange=exchange, epsilon=each, partition=partition, seed=seed)
        for exchange in exchanges
        for partition in ("shards", "iid")
        for each in (epsilon, None)
    ]


def run_case(case: Case, folder: Path, *, steps: int, images: int) -> list[dict[str, Any]]:
    """The rows of a case: one for each evaluation. A finished case is read from its folder."""
    kept = folder / f"{case.name}.json"
    if kept.exists():
        rows: list[dict[str, Any]] = json.loads(kept.read_text())
        return rows
    run_dir, started = folder / case.name, time.process_time()
    if RunFolder(run_dir).config_file.exists():
        result = ps.resume(run_dir, progress=False)
    else:
        config = ps.load_config(None, case.settings(steps=steps, images=images))
        result = ps.run(config, run_dir=run_dir, progress=False)
    seconds = time.process_time() - started
    rows, sent = [], 0
    metrics = result.metrics
    for line in metrics:
        sent += line["bytes_up"] + line["bytes_down"]
        quality = line["quality"]
        if line["round_number"] == len(metrics):
            quality = result.summary.quality
        if quality is None:
            continue
        found = quality["rows"]["generated"]
        rows.append(
            {
                "exchange": case.exchange,
                "privacy": case.privacy,
                "partition": case.partition,
                "seed": case.seed,
                "round": line["round_number"],
                "megabytes_per_site": round(sent / SITES / 1e6, 4),
                "waiting_hours": round(line["round_number"] * ROUND_S / 3600, 4),
                "kid": round(found["kid"], 4),
                "frechet": found["frechet"],
                "recall": round(found["recall"], 4),
                "core_seconds": round(seconds * line["round_number"] / len(metrics), 1),
            }
        )
    write_bytes(kept, json.dumps(rows).encode())
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """KID over bytes: a panel for each privacy and partition, a line for each exchange."""
    privacies = sorted({row["privacy"] for row in rows})
    partitions = sorted({row["partition"] for row in rows})
    figure, axes = plt.subplots(
        len(privacies), len(partitions), figsize=(10, 8), sharex=True, sharey=True, squeeze=False
    )
    for i, privacy in enumerate(privacies):
        for j, partition in enumerate(partitions):
            axis = axes[i][j]
            axis.set_title(f"{partition}, privacy {privacy}")
            chosen = [r for r in rows if (r["privacy"], r["partition"]) == (privacy, partition)]
            for exchange in dict.fromkeys(row["exchange"] for row in chosen):
                line = [row for row in chosen if row["exchange"] == exchange]
                marker = "*" if exchange == "release" else "."
                axis.plot(
                    [row["megabytes_per_site"] for row in line],
                    [max(row["kid"], 1e-3) for row in line],
                    marker=marker,
                    markersize=14 if exchange == "release" else 6,
                    label=exchange,
                )
            axis.set(xscale="log", yscale="log", xlabel="MB of a site", ylabel="KID")
            if chosen:
                axis.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--steps", type=int, default=240, help="steps of every run")
    parser.add_argument("--images", type=int, default=500, help="evaluated images")
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for case in cases(epsilon=given.epsilon, seed=given.seed):
        is_kept = (given.out / f"{case.name}.json").exists()
        if given.only not in case.name and not is_kept:
            continue
        rows += run_case(case, given.out, steps=given.steps, images=given.images)
        print(f"{case.name}: KID {rows[-1]['kid']:.3f} after {rows[-1]['megabytes_per_site']} MB")
        given.results.mkdir(parents=True, exist_ok=True)
        with (given.results / "exchange.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        plot(rows, given.results / "exchange.png")


if __name__ == "__main__":
    main()
