"""Central training, FedAvg and every strategy on non-IID Fashion-MNIST, at one equal budget.

Finished runs are kept, so that an interrupted comparison goes on where it was and the table and
plots can be made again without training.

    phoenix-secure data fetch fashion-mnist
    python benchmarks/strategies.py --out runs/strategies
    python benchmarks/strategies.py --out runs/strategies --only "shards/FedAvg/1"
    python benchmarks/strategies.py --out runs/strategies --report docs/results
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

SEEDS = (1, 2, 3)
# Plaintext aggregation: all runs must differ in the method alone, and secure sums change no figure
# but the bytes (docs/secure-rounds.md). One worker: seconds are those of one core.
COMMON = ["secure_aggregation.mode=off", "federation.workers=1", "device=cpu"]
SPLITS = {
    "shards": ["partition.scheme=shards", "partition.shards_per_site=2"],
    "dirichlet": ["partition.scheme=dirichlet", "partition.alpha=0.1"],
}
CENTRAL = [
    "partition.scheme=iid",
    "partition.num_sites=1",
    "training.local_steps=50",
    "training.warmup_steps=100",
    "federation.min_sites=1",
]
# 200 of the 800 steps go to the warm-up, so that four rounds are left out.
SHARING = [
    "sharing.source=public",
    "sharing.name=fashion-mnist",
    "sharing.part=test",
    "sharing.warmup_steps=200",
    "federation.rounds=12",
]
PERSONAL = ["exchange.personal=[last-layers]"]
FILTERING = [
    "filtering.threshold=0.3",
    "filtering.first_round=6",
    "filtering.every_rounds=3",
    "filtering.num_images=60",
    "filtering.num_steps=10",
    "filtering.max_failures=1",
]
ALTERNATE = ["exchange.upload=alternate"]
PROX = ["training.proximal_mu=0.01"]
METHODS = {
    "FedAvg": [],
    "FedProx": PROX,
    "+ sharing": SHARING,
    "+ personal layers": PERSONAL,
    "+ filtering": FILTERING,
    "+ alternate upload": ALTERNATE,
    "+ all": SHARING + PERSONAL + FILTERING + ALTERNATE + PROX,
}
BETAS = (0.01, 0.05, 0.1)
ALPHAS = (0.1, 0.5, 1.0)


def grid() -> dict[str, list[str]]:
    """name -> overrides of every run, the most telling first."""
    runs: dict[str, list[str]] = {}
    for seed in SEEDS:
        common = [f"seed={seed}", *COMMON]
        runs[f"one place/central/{seed}"] = CENTRAL + common
        for split, where in SPLITS.items():
            for method, how in METHODS.items():
                runs[f"{split}/{method}/{seed}"] = where + how + common
        if seed == SEEDS[0]:
            runs[f"iid/FedAvg/{seed}"] = ["partition.scheme=iid", *common]
            runs |= sweep(SPLITS["shards"] + SHARING + common)
            runs |= reasons(common)
    return runs


def sweep(common: list[str]) -> dict[str, list[str]]:
    """beta against alpha, one seed."""
    return {
        f"sweep/beta {beta:g} alpha {alpha:g}/{SEEDS[0]}": [
            *common,
            f"sharing.beta={beta}",
            f"sharing.alpha={alpha}",
        ]
        for beta in BETAS
        for alpha in ALPHAS
    }


def reasons(common: list[str]) -> dict[str, list[str]]:
    """Ablation of sharing's two halves, and of four times as many rounds; one seed."""
    shards = SPLITS["shards"] + common
    longer = ["federation.rounds=64"]
    iid = ["partition.scheme=iid", *common]
    runs = {
        "warm-up alone": [*shards, *SHARING, "sharing.alpha=0"],
        "mixing alone": [*shards, *SHARING, *warm_up_none(), "sharing.alpha=1"],
        "64 rounds, central": [*CENTRAL, *common, *longer],
        "64 rounds, FedAvg on iid": iid + longer,
        "64 rounds, FedAvg": shards + longer,
        "64 rounds, + sharing": [*shards, *SHARING, "federation.rounds=60"],
        "64 rounds, + personal layers": shards + PERSONAL + longer,
    }
    return {f"why/{name}/{SEEDS[0]}": overrides for name, overrides in runs.items()}


def warm_up_none() -> list[str]:
    """All 16 rounds, as without sharing."""
    return ["sharing.warmup_steps=0", "federation.rounds=16"]


def folder_of(out: Path, name: str) -> Path:
    return out / "".join(c if c.isalnum() or c in ".-" else "-" for c in name)


@contextlib.contextmanager
def turn(lock: Path | None) -> Iterator[None]:
    """Wait for a lock file that other programs on this machine take, too."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--only", default="", help="runs whose name begins with this")
    parser.add_argument("--report", type=Path, help="write table and plots here, train nothing")
    parser.add_argument("--lock", type=Path, help="file to lock around each run")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.report is not None:
        from strategies_report import report

        report(arguments.out, arguments.report, grid=grid(), folder_of=folder_of)
        return
    from strategies_measure import measure, measure_ends

    arguments.out.mkdir(parents=True, exist_ok=True)
    measure_ends(arguments.out, [f"seed={SEEDS[0]}", *COMMON])
    for name, overrides in grid().items():
        if name.startswith(arguments.only):
            with turn(arguments.lock):
                found = measure(folder_of(arguments.out, name), overrides)
            best = found.get("personal", found["global"])
            print(
                f"{name}: KID {best['kid']:.2f}, recall {best['recall']:.3f}, "
                f"{found['refusals']} refusals, {found['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
