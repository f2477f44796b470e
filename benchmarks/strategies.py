"""Central training and four federated methods on non-IID Fashion-MNIST, at one equal budget.

Runs are ordinary run folders: finished ones are kept, so an interrupted comparison goes on where
it was. Ends with a Markdown table.

    phoenix-secure data fetch fashion-mnist
    python benchmarks/strategies.py --out runs/strategies
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "fashion_strategies.yaml"

# Ten sites x 10 steps x 30 rounds, for one site that holds everything.
CENTRAL = [
    "partition.scheme=iid",
    "partition.num_sites=1",
    "training.local_steps=100",
    "training.warmup_steps=200",
]
PARTITIONS = {
    "Dirichlet 0.3": ["partition.scheme=dirichlet", "partition.alpha=0.3"],
    "2 shards": ["partition.scheme=shards", "partition.shards_per_site=2"],
}
METHODS = {
    "FedAvg": [],
    "FedProx mu=0.1": ["training.proximal_mu=0.1"],
    "FedAvgM beta=0.7": [
        "federation.server_optimizer=fedavgm",
        "federation.server_momentum=0.7",
        "federation.server_learning_rate=0.5",
    ],
    "FedAdam eta=0.01": [
        "federation.server_optimizer=fedadam",
        "federation.server_learning_rate=0.01",
    ],
}


def runs() -> list[tuple[str, str, list[str]]]:
    """(partition, method, overrides) of every run."""
    # In the clear: one site alone cannot aggregate securely, and all runs must differ in the
    # method alone. Quantisation changes no figure of the table.
    clear = ["secure_aggregation.mode=off"]
    grid = [("all images in one place", "central", CENTRAL + clear)]
    for partition, where in PARTITIONS.items():
        grid += [(partition, method, where + how + clear) for method, how in METHODS.items()]
    return grid


def ensure(folder: Path, overrides: list[str]) -> dict:
    """The summary of a run, running or resuming it when there is none yet."""
    program = [sys.executable, "-m", "phoenix_secure"]
    if not (folder / "summary.json").exists():
        if (folder / "config.yaml").exists():
            command = [*program, "resume", str(folder)]
        else:
            command = [*program, "run", str(CONFIG), *overrides, "--run-dir", str(folder)]
        subprocess.run(command, check=True)  # noqa: S603
    return json.loads((folder / "summary.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--set", nargs="*", default=[], help="overrides for every run")
    arguments = parser.parse_args()
    rows = []
    for partition, method, overrides in runs():
        name = f"{partition} {method}".replace(" ", "-").replace("=", "")
        summary = ensure(arguments.out / name, overrides + arguments.set)
        rows.append((partition, method, summary))
    print("| partition | method | KID | precision | recall | MB up + down | seconds |")
    print("|---|---|---|---|---|---|---|")
    for partition, method, summary in rows:
        q = summary["quality"]["rows"]["generated"]
        megabytes = (summary["bytes_up"] + summary["bytes_down"]) / 1e6
        # A central run moves no bytes between owners: its one "site" is the whole data set.
        moved = "0" if method == "central" else f"{megabytes:,.0f}"
        print(
            f"| {partition} | {method} | {q['kid']:.2f} ± {q['kid_std']:.2f} "
            f"| {q['precision']:.3f} | {q['recall']:.3f} | {moved} "
            f"| {summary['training_seconds']:.0f} |"
        )
    for row in ("held-out real", "noise"):
        q = rows[0][2]["quality"]["rows"][row]
        print(
            f"| | {row} | {q['kid']:.2f} ± {q['kid_std']:.2f} "
            f"| {q['precision']:.3f} | {q['recall']:.3f} | | |"
        )


if __name__ == "__main__":
    main()
