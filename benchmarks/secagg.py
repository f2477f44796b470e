"""Secure aggregation against its limits: AES-256-CTR on this machine, and Flower's SecAgg+.

    python benchmarks/secagg.py --d 10000000 --k 64 --json
    python benchmarks/secagg.py --table
    python benchmarks/secagg.py --shares

Every figure is the best of several repetitions, and all items are measured in turn within each
repetition, so that a ratio compares the same minutes of the same machine. "Overall" is what one
round costs for one site: share creation, quantise and mask (site), add and unmask (server).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import cpu_name, cpu_seconds, high_water_mark
from secagg_phoenix import PhoenixClient, aes_limit
from secagg_suites import round_costs

from protocol.masks import add_masks
from protocol.suite import Suite

TABLE_CLIENTS = (5, 16, 64, 128)
TABLE_WORDS = (100_000, 1_000_000, 10_000_000, 35_700_000)
ROUND_SITES = (5, 16, 64)
AES_CHUNKS = (1 << 16, 1 << 18, 1 << 20)


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--d", type=int, default=10_000_000, help="words in the vector")
    parser.add_argument("--k", type=int, default=64, help="peers of each site")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--table", action="store_true", help="cost by cohort and model size")
    parser.add_argument("--shares", action="store_true", help="shares' check, both suites")
    parser.add_argument("--memory", choices=["phoenix", "flower"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.d < 1 or options.k < 4 or options.repetitions < 1:
        parser.error("expected --d >= 1, --k >= 4 and --repetitions >= 1")
    if options.memory:
        print(peak_copies(options.memory, num_words=options.d, num_neighbours=options.k))
        return
    if options.shares:
        found = verification(options.repetitions)
    elif options.table:
        found = table(options.repetitions)
    else:
        found = measure(options.d, options.k, options.repetitions)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.table:
        print_table(found)
    else:
        for name, value in found.items():
            print(f"{name:38} {value:.4g}" if isinstance(value, float) else f"{name:38} {value}")


def verification(repetitions: int) -> dict[str, object]:
    """CPU seconds of verifying shares before anything is masked, by cohort.

    verify_shares_site_N     all shares that one site holds
    verify_shares_dealer_N   one dealer's dealing, at the server
    deal_shares_N            making and sealing a dealing, for comparison
    pq_...                   the same in the hybrid suite; of whole rounds, bytes of a site without
                             the masked words and CPU seconds of a site and of the server
    """
    found: dict[str, object] = {}
    for suite, prefix in ((Suite.CLASSICAL, ""), (Suite.HYBRID_PQ, "pq_")):
        for n in (16, 64, 128):
            client = PhoenixClient(num_neighbours=n - 1, threshold=majority(n), suite=suite)
            client.share_keys()
            runs: dict[str, Callable[[], object]] = {
                "verify_shares_site": client.verify_held,
                "verify_shares_dealer": client.verify_dealing,
                "deal_shares": client.share_keys,
            }
            for name, run in runs.items():
                best = min(cpu_seconds(run) for _ in range(3 * repetitions))
                found[f"{prefix}{name}_{n}_s"] = best
    for n in ROUND_SITES:
        for suite, prefix in ((Suite.HYBRID_PQ, "pq_"), (Suite.CLASSICAL, "pq_against_classical_")):
            for name, value in round_costs(n, majority(n), suite=suite).items():
                found[f"{prefix}round_{n}_{name}"] = value
    found["load_average_1min"] = os.getloadavg()[0]
    found["cpu"] = cpu_name()
    return found


def measure(num_words: int, num_neighbours: int, repetitions: int) -> dict[str, object]:
    """Every item of the comparison, in seconds, and the ratios that follow."""
    from secagg_flower import FlowerClient, decode, recover_dropped, unmask_survivor

    threshold = majority(num_neighbours + 1)
    values = random_update(num_words)
    ours = PhoenixClient(num_neighbours=num_neighbours, threshold=threshold)
    theirs = FlowerClient(num_neighbours=num_neighbours, threshold=threshold)
    ours.share_keys()
    theirs.share_keys()
    delivered, key_shares = theirs.deliver(), theirs.private_key_shares()
    upload = ours.masked_upload(values, num_threads=1)
    flower_upload = theirs.masked_upload(delivered, values)
    total = np.zeros(num_words, dtype=np.uint32)
    ours.unmask_survivor(upload, total, num_threads=1)
    ours.recover_dropped(total, num_threads=1)
    assert np.abs(ours.decode(total) - values).max() <= 1 / ours.format.scale
    flower_total = [np.zeros(1, np.int64), np.zeros(num_words, np.int64)]
    masks = [(os.urandom(32), 1) for _ in range(num_neighbours + 1)]
    mask_bytes = 4 * num_words * len(masks)

    items: dict[str, Callable[[], object]] = {
        f"aes_limit_{chunk >> 10}k": lambda chunk=chunk: aes_limit(mask_bytes, chunk=chunk)
        for chunk in AES_CHUNKS
    }
    for threads in (1, 2):
        items |= {
            f"mask_{threads}t": lambda t=threads: add_masks(total, masks, num_threads=t),
            f"client_{threads}t": lambda t=threads: ours.masked_upload(values, num_threads=t),
            f"unmask_{threads}t": lambda t=threads: (
                ours.unmask_survivor(upload, total, num_threads=t),
                ours.decode(total),
            ),
            f"recover_{threads}t": lambda t=threads: ours.recover_dropped(total, num_threads=t),
        }
    items |= {
        "shares": ours.share_keys,
        "flower_client": lambda: theirs.masked_upload(delivered, values),
        "flower_unmask": lambda: decode(
            unmask_survivor(flower_upload, flower_total, theirs.state.rd_seed)
        ),
        "flower_recover": lambda: recover_dropped(theirs, key_shares, flower_total),
        "flower_shares": FlowerClient(
            num_neighbours=num_neighbours, threshold=threshold
        ).share_keys,
    }
    best = dict.fromkeys(items, float("inf"))
    for _ in range(repetitions):
        for name, run in items.items():
            # Flower's items take seconds each and vary little; ours are short.
            for _ in range(1 if name.startswith("flower") else 3):
                best[name] = min(best[name], seconds(run))
        # The limit and our masks once more, in turn: their ratio is near one.
        for _ in range(3):
            for name in [name for name in items if name.startswith(("aes", "mask"))]:
                best[name] = min(best[name], seconds(items[name]))
    found: dict[str, object] = {"d": num_words, "k": num_neighbours, "threshold": threshold}
    found |= {f"{name}_s": value for name, value in best.items()}
    found |= ratios(best, mask_bytes)
    found["bytes_per_parameter"] = len(upload) / num_words
    found["flower_bytes_per_parameter"] = sum(map(len, flower_upload)) / num_words
    for side in ("phoenix", "flower"):
        found[f"{side}_peak_copies"] = peak_in_child(side, num_words, num_neighbours)
    found["load_average_1min"] = os.getloadavg()[0]
    found["cpu"] = cpu_name()
    return found


def ratios(best: dict[str, float], mask_bytes: int) -> dict[str, float]:
    """The figures that the targets speak of."""
    limit = min(best[f"aes_limit_{chunk >> 10}k"] for chunk in AES_CHUNKS)
    flower = best["flower_client"] + best["flower_unmask"]
    found = {
        "aes_limit_gb_per_s": mask_bytes / limit / 1e9,
        "mask_fraction_of_limit": limit / best["mask_1t"],
        "mask_speedup_two_threads": best["mask_1t"] / best["mask_2t"],
        "shares_ratio_to_flower": best["flower_shares"] / best["shares"],
    }
    for threads in ("1t", "2t"):
        ours = best[f"client_{threads}"] + best[f"unmask_{threads}"]
        found[f"mask_quantise_unmask_ratio_to_flower_{threads}"] = flower / ours
        found[f"overall_ratio_to_flower_{threads}"] = (flower + best["flower_shares"]) / (
            ours + best["shares"]
        )
        found[f"recovery_ratio_to_flower_{threads}"] = (
            best["flower_recover"] / best[f"recover_{threads}"]
        )
    return found


def table(repetitions: int) -> dict[str, object]:
    """Seconds for one site and for the server, by cohort and by model size, on two threads.

    The server's total is computed from the measured parts: every survivor once, and a tenth of
    the cohort (at least one site) recovered after it dropped out.
    """
    rows = []
    for num_words in TABLE_WORDS:
        values = random_update(num_words)
        rows += [table_row(n, values, repetitions) for n in TABLE_CLIENTS]
    return {"rows": rows, "load_average_1min": os.getloadavg()[0], "cpu": cpu_name()}


def table_row(num_clients: int, values: np.ndarray, repetitions: int) -> dict[str, object]:
    """One cohort and one model size."""
    client = PhoenixClient(num_neighbours=num_clients - 1, threshold=majority(num_clients))
    client.share_keys()
    total = np.zeros(values.size, dtype=np.uint32)
    upload = client.masked_upload(values, num_threads=2)
    runs: dict[str, Callable[[], object]] = {
        "shares": client.share_keys,
        "client": lambda: client.masked_upload(values, num_threads=2),
        "survivor": lambda: client.unmask_survivor(upload, total, num_threads=2),
        "recovery": lambda: client.recover_dropped(total, num_threads=2),
        "decode": lambda: client.decode(total),
    }
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repetitions):
        for name, run in runs.items():
            best[name] = min(best[name], seconds(run))
    drops = max(1, num_clients // 10)
    server = (num_clients - drops) * best["survivor"] + drops * best["recovery"] + best["decode"]
    return {
        "n": num_clients,
        "d": values.size,
        "client_s": best["shares"] + best["client"],
        "upload_mb": len(upload) / 1e6,
        "survivor_s": best["survivor"],
        "recovery_s": best["recovery"],
        "dropouts": drops,
        "server_s": server,
    }


def print_table(found: dict[str, object]) -> None:
    """The rows as a Markdown table."""
    print("| n | d | site s | upload MB | per survivor s | per drop-out s | drop-outs | server s |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found["rows"]:
        print(
            f"| {row['n']} | {row['d']:.3g} | {row['client_s']:.4f} | {row['upload_mb']:.1f} | "
            f"{row['survivor_s']:.4f} | {row['recovery_s']:.4f} | {row['dropouts']} | "
            f"{row['server_s']:.3f} |"
        )
    print(
        f"\n{found['cpu']}, load average {found['load_average_1min']:.1f}, 24-bit words, 2 threads"
    )


def peak_in_child(side: str, num_words: int, num_neighbours: int) -> float:
    """Peak memory above a warm interpreter, in copies of the float32 vector."""
    command = [sys.executable, str(Path(__file__)), "--memory", side]
    command += ["--d", str(num_words), "--k", str(num_neighbours)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout.split()[-1])


def peak_copies(side: str, *, num_words: int, num_neighbours: int) -> float:
    """The same, in this process: the input vector included, all libraries loaded before."""
    if side == "phoenix":
        client = PhoenixClient(
            num_neighbours=num_neighbours, threshold=majority(num_neighbours + 1)
        )
        client.share_keys()

        def run(values: np.ndarray) -> object:
            return client.masked_upload(values, num_threads=2)

    else:
        from secagg_flower import FlowerClient

        other = FlowerClient(num_neighbours=num_neighbours, threshold=majority(num_neighbours + 1))
        other.share_keys()
        delivered = other.deliver()

        def run(values: np.ndarray) -> object:
            return other.masked_upload(delivered, values)

    run(random_update(1000))
    before = high_water_mark()
    kept = run(random_update(num_words))
    assert kept
    return (high_water_mark() - before) / (4 * num_words)


def random_update(num_words: int) -> np.ndarray:
    """A float32 vector in [-1, 1], made without a float64 copy."""
    values = np.random.default_rng(0).random(num_words, dtype=np.float32)
    values *= 2
    values -= 1
    return values


def majority(num_clients: int) -> int:
    """t of the complete graph for a tenth of colluders."""
    colluders = max(1, -(-num_clients // 10))
    return (num_clients + colluders) // 2 + 1


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
