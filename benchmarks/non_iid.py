"""What skew costs, and what closes the gap: every method at as many steps in a row.

    phoenix-secure data fetch fashion-mnist
    python benchmarks/non_iid.py --out runs/non_iid                      # hours of one core
    python benchmarks/non_iid.py --out runs/non_iid --only shards/20/   # one split
    python benchmarks/non_iid.py --out runs/non_iid --list

One place takes so many steps, and so does each of ten sites, between two sums of which lie 5, 20 or
80: ten times the compute, side by side. Under `benchmarks/strategies.py` all steps of all sites
together are the budget, and even equally dealt images end in grain. A method that trains before the
first round (a warm-up on shared images) has so many rounds less.

A finished run is kept in --out and never run again. Its row is in docs/results/non_iid.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.files import write_bytes

COLUMNS = (
    *("dataset", "split", "local_steps", "strategy", "seed", "kid", "recall", "coverage"),
    *("class_tv", "bytes", "core_hours", "command"),
)
SEEDS, LOCAL_STEPS, WARM_UP = (1, 2, 3), (20, 5, 80), 200
COMMON = ["secure_aggregation.mode=off", "federation.workers=1", "device=cpu"]
SPLITS = {
    "shards": ["partition.scheme=shards", "partition.shards_per_site=2"],
    "dirichlet-0.1": ["partition.scheme=dirichlet", "partition.alpha=0.1"],
    "dirichlet-0.3": ["partition.scheme=dirichlet", "partition.alpha=0.3"],
    "quantity": ["partition.scheme=quantity", "partition.alpha=0.3"],
    "iid": ["partition.scheme=iid"],
}
SHARING = [f"sharing.warmup_steps={WARM_UP}", "sharing.num_images=480"]
METHODS = {
    "fedavg": [],
    "sharing": [*SHARING, "sharing.source=public", "sharing.part=test"],
    "sharing-release-1": [*SHARING, "sharing.source=generator"],
    "sharing-release-8": [*SHARING, "sharing.source=generator"],
    "personal": ["exchange.personal=[last-layers]"],
    "fedavgm": ["federation.server_optimizer=fedavgm", "federation.server_learning_rate=0.3"],
    "fedadam": ["federation.server_optimizer=fedadam", "federation.server_learning_rate=0.003"],
    "fedprox": ["training.proximal_mu=0.01"],
    "scaffold": ["training.control_variates=true"],
    # The model goes from one site to the next. The server, or whoever passes it on, sees what each
    # site made of it: there is no sum to hide in.
    "cyclic": ["federation.participation=0.1", "federation.min_sites=1"],
    "no-ema": ["ema.decay=0"],
    "alternate": ["exchange.upload=alternate"],
}
# A sum after every step: as one place with ten times the batch would do.
GRADIENTS = [
    "federation.exchange=gradients",
    "federation.server_optimizer=fedadam",
    "training.local_steps=1",
    "training.grad_clip=null",
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run. ``local_steps`` 0: one place, or a sum after every step."""

    dataset: str
    split: str
    local_steps: int
    strategy: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.split}/{self.local_steps}/{self.strategy}/{self.seed}"

    def settings(self, *, steps: int, release: Path | None) -> list[str]:
        found = [f"data.name={self.dataset}", f"seed={self.seed}", *COMMON]
        if self.strategy == "central":
            found += ["partition.scheme=iid", "partition.num_sites=1", "federation.min_sites=1"]
            return [*found, "training.local_steps=50", f"federation.rounds={steps // 50}"]
        found += SPLITS[self.split]
        if self.strategy == "gradients":
            return [*found, *GRADIENTS, f"federation.rounds={steps}"]
        found += [*METHODS[self.strategy], f"training.local_steps={self.local_steps}"]
        if self.strategy.startswith("sharing"):
            steps -= WARM_UP
            where = f"sharing.name={self.dataset}" if release is None else f"sharing.path={release}"
            found.append(where)
        return [*found, f"federation.rounds={max(1, steps // self.local_steps)}"]


def cases(dataset: str) -> Iterator[Case]:
    """The most telling first: the ends, the splits, then other numbers of steps and other seeds."""
    for seed in SEEDS:
        yield Case(dataset=dataset, split="all", local_steps=0, strategy="central", seed=seed)
        for local_steps in LOCAL_STEPS:
            for split in ("iid", *(name for name in SPLITS if name != "iid")):
                for strategy in METHODS:
                    if split in ("shards", "dirichlet-0.1") or strategy in ("fedavg", "sharing"):
                        yield Case(
                            dataset=dataset,
                            split=split,
                            local_steps=local_steps,
                            strategy=strategy,
                            seed=seed,
                        )
        yield Case(dataset=dataset, split="shards", local_steps=0, strategy="gradients", seed=seed)


def release_of(case: Case, out: Path) -> Path | None:
    """The finished release that a case shares images of; made where it is not there."""
    if not case.strategy.startswith("sharing-release"):
        return None
    from strategies_measure import CONFIG

    import phoenix_secure as ps
    from phoenix_secure.config_file import load_config

    epsilon = case.strategy.rpartition("-")[2]
    folder = out / f"release-{case.split}-{epsilon}-{case.seed}"
    data = load_config(CONFIG).data
    if not (folder / "summary.json").exists():
        ps.run(
            load_config(
                "release",
                [
                    *(f"data.name={case.dataset}", f"seed={case.seed}", *SPLITS[case.split]),
                    *(f"data.image_size={data.image_size}", f"data.max_images={data.max_images}"),
                    *("data.held_out=0.1", "data.reference=0.1", f"privacy.epsilon={epsilon}"),
                    *("privacy.delta=1e-5", "release.features=pixel-hog-patch"),
                    *("release.num_features=2000", "release.max_images=2048"),
                    *("release.fit_batch=200", "evaluation.num_images=0", "federation.workers=1"),
                    *("federation.threads_per_site=1", "partition.num_sites=10"),
                ],
            ),
            run_dir=folder,
            progress=False,
            overwrite=folder.exists(),
        )
    return folder.resolve()


def row_of(case: Case, found: dict[str, Any], *, command: str) -> dict[str, Any]:
    """The line of the table; personal models together where there are some."""
    best = found.get("personal", found["global"])
    return {
        "dataset": case.dataset,
        "split": case.split,
        "local_steps": case.local_steps,
        "strategy": case.strategy,
        "seed": case.seed,
        "kid": round(best["kid"], 3),
        "recall": round(best["recall"], 4),
        "coverage": round(best["coverage"], 4),
        "class_tv": round(best["total_variation"], 4),
        "bytes": found["bytes_up"] + found["bytes_down"],
        "core_hours": round(found["seconds"] / 3600, 3),
        "command": command,
    }


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Put ``rows`` into the table at ``path``, in the place of those that they make again."""

    def key(row: dict[str, Any]) -> str:
        return str(row["command"])

    kept: dict[str, dict[str, Any]] = {}
    if path.exists():
        with path.open(newline="") as file:
            kept = {key(row): row for row in csv.DictReader(file)}
    kept |= {key(row): row for row in rows}
    text = [",".join(COLUMNS), *(",".join(str(row[c]) for c in COLUMNS) for row in kept.values())]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, ("\n".join(text) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/non_iid"))
    parser.add_argument("--only", default="", help="cases whose name begins with this")
    parser.add_argument("--dataset", choices=("fashion-mnist", "mnist"), default="fashion-mnist")
    parser.add_argument("--steps", type=int, default=800, help="steps in a row (default 800)")
    parser.add_argument("--csv", type=Path, default=Path("docs/results/non_iid.csv"))
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    given = parser.parse_args()
    chosen = [case for case in cases(given.dataset) if case.name.startswith(given.only)]
    if not chosen:
        parser.error(f"--only {given.only}: no case begins so; --list prints them")
    if given.list:
        print("\n".join(case.name for case in chosen))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from strategies_measure import measure

    out = given.out / given.dataset
    out.mkdir(parents=True, exist_ok=True)
    for case in chosen:
        command = f"python benchmarks/non_iid.py --dataset {case.dataset} --steps {given.steps}"
        folder = out / f"{given.steps}-{case.name.replace('/', '-')}"
        settings = case.settings(steps=given.steps, release=release_of(case, out))
        row = row_of(case, measure(folder, settings), command=f"{command} --only {case.name}")
        write_rows([row], given.csv)
        print(
            f"{case.name}: KID {row['kid']}, recall {row['recall']}, {row['core_hours']} h",
            flush=True,
        )


if __name__ == "__main__":
    main()
