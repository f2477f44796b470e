"""The evidence of a long run: seconds per 1,000 rounds, from the first to the last.

    python benchmarks/evidence.py                    # 10,000 rounds, 5 sites
    python benchmarks/evidence.py --rounds 1000 --dir .   # on this disk, with its fsync
    python benchmarks/evidence.py --json

No training and no secure sum. Every round writes the entries of a run (round-started, aggregated,
checkpoint, witnessed); real witnesses check each head, keep it and sign it. Where there is memory
that looks like a folder (/dev/shm) the files lie in it, so that the figure is this code's; what an
fsync of the disk adds is measured beside it. CPU seconds are of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from phoenix_secure.data.partition import site_names
from phoenix_secure.evidence import Event, Ledger, Scope, read_ledger
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.secagg.keys import RunKeys
from phoenix_secure.federation.server.recorded_round import Witnesses
from phoenix_secure.federation.simulation.parties import local_witnesses

MEMORY = Path("/dev/shm")  # noqa: S108
ENTRIES_PER_ROUND = 4
NUM_SAMPLES = 20
PLAN = "ab" * 32


def one_round(evidence: RunEvidence, witnesses: Witnesses, engine: Engine, number: int) -> None:
    """The entries of a secure round, with the facts that a run writes."""
    sites = engine.sites
    evidence.round_started(number, cohort=sites)
    evidence.ledger.append(
        Event.AGGREGATED,
        round=number,
        secure=True,
        sites=list(sites),
        protocol_round=number,
        attempts=1,
        failed_attempts=[],
        survivors=list(sites),
        clipped=0,
        transcript=f"{number:064x}",
    )
    evidence.ledger.append(
        Event.CHECKPOINT,
        round=number,
        parameters_sha256=f"{number:064x}",
        ema_sha256=f"{number:064x}",
        num_parameters=640_000,
        loss=1 / number,
        seconds=4.0,
        num_images=4000,
    )
    if len(witnesses.ask(engine)) != len(sites):
        raise AssertionError("expected every site's signature")


def measure(folder: Path, *, num_rounds: int, num_sites: int) -> list[dict[str, float]]:
    """Ten rows, one for each tenth of the rounds: seconds per 1,000 rounds."""
    keys = RunKeys.create(folder, sites=site_names(num_sites))
    evidence = RunEvidence(
        Ledger.create(
            folder / "ledger.jsonl",
            identity=keys.server,
            scope=Scope.new(federation=keys.roster.federation_id, plan=PLAN),
        )
    )
    witnesses = Witnesses(evidence, identity=keys.server, roster=keys.roster)
    engine = local_witnesses(folder, keys, plan=PLAN)
    rows = []
    for tenth in range(10):
        first, last = (num_rounds * each // 10 for each in (tenth, tenth + 1))
        cpu, wall = time.process_time(), time.perf_counter()
        for number in range(first + 1, last + 1):
            one_round(evidence, witnesses, engine, number)
        per_thousand = 1000 / (last - first)
        rows.append(
            {
                "entries": evidence.ledger.head.size,
                "cpu_s": (time.process_time() - cpu) * per_thousand,
                "wall_s": (time.perf_counter() - wall) * per_thousand,
            }
        )
    expected = 1 + ENTRIES_PER_ROUND * num_rounds
    if read_ledger(folder / "ledger.jsonl").head.size != expected:
        raise AssertionError(f"expected {expected} entries")
    return rows


def fsync_seconds(folder: Path) -> float:
    """The median time of one short append with fsync below ``folder``."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(NUM_SAMPLES):
            file.write(b"x" * 500)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=MEMORY if MEMORY.is_dir() else Path())
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.rounds < 10 or options.sites < 1:
        parser.error("expected --rounds >= 10 and --sites >= 1")
    with tempfile.TemporaryDirectory(dir=options.dir) as path:
        rows = measure(Path(path), num_rounds=options.rounds, num_sites=options.sites)
    ratio = rows[-1]["cpu_s"] / rows[0]["cpu_s"]
    disk_ms = fsync_seconds(Path()) * 1000
    # An entry is one fsync at the server, a witnessed head one at each site.
    num_fsyncs = 1000 * (ENTRIES_PER_ROUND + options.sites)
    fsync_s = num_fsyncs * disk_ms / 1000
    if options.json:
        found = {"rows": rows, "last_over_first": ratio, "disk_fsync_s_per_1000_rounds": fsync_s}
        print(json.dumps(found, indent=1))
        return
    print(f"{options.rounds:,} rounds, {options.sites} sites, files below {options.dir}\n")
    print("| entries | CPU s per 1,000 rounds | wall s |\n|---|---|---|")
    for row in rows:
        print(f"| {row['entries']:,} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} |")
    print(f"\nlast tenth / first tenth: {ratio:.2f} (CPU)")
    share = "dominates there" if fsync_s > rows[-1]["cpu_s"] else "is the smaller part there"
    print(
        f"an fsync on the disk of this folder takes {disk_ms:.1f} ms, {fsync_s:.1f} s per 1,000 "
        f"rounds of one machine: fsync {share}"
    )
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
