"""A secure round of a large model in one process: CPU seconds, peak memory, and the same bits.

    python benchmarks/large_round.py                            # 35.7 M parameters, five sites
    python benchmarks/large_round.py --against ../main          # and another checkout, in turn
    python benchmarks/large_round.py --d 4000000 --json

No training: every site answers with one random update, as in benchmarks/federation.py. Each
measurement is a process of its own; the first round of each pays for allocation and is not counted.
Memory is the peak above what was there before the first round, in vectors of float32, for the
server and all sites together; each of them keeps two states of the model, shared in one process.
``--against`` ends with an error where the two checkouts compute different models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import calibration, cpu_name, high_water_mark, print_row

CIFAR10_PARAMETERS = 35_700_000
HERE = Path(__file__).resolve().parents[1]


def measure_here(num_parameters: int, *, sites: int, rounds: int) -> dict[str, object]:
    """This process's own checkout: the best round after the first."""
    import time

    from federation import Parties, run_round

    from phoenix_secure.federation.round.messages import TrainRequest

    best: dict[str, object] = {"cpu_s": float("inf")}
    with tempfile.TemporaryDirectory() as path:
        parties = Parties(Path(path), num_sites=sites, num_parameters=num_parameters)
        with parties.aggregator(secure=True) as aggregator:
            state, before = parties.state, high_water_mark()
            for number in range(1, rounds + 2):
                request = TrainRequest(round_number=number, parameters=state.parameters)
                started = time.process_time()
                found, reports, wall = run_round(aggregator, request, parties.names)
                cpu = time.process_time() - started
                state = found.state
                if number > 1 and cpu < best["cpu_s"]:
                    best = {"cpu_s": cpu, "wall_s": wall}
                    best["stages_s"] = {report.stage: report.seconds for report in reports}
    vectors = (high_water_mark() - before) / (4 * num_parameters)
    digest = hashlib.sha256(state.parameters.tobytes() + state.ema.tobytes()).hexdigest()
    return {**best, "peak_vectors": vectors, "model": digest}


def in_child(checkout: Path, options: argparse.Namespace) -> dict[str, object]:
    """The same of any checkout, in a process of its own."""
    # The rounds are driven by this file's neighbour: only what is measured is the checkout's.
    path = str(checkout.resolve())
    command = [sys.executable, __file__, "--child", "--d", str(options.d)]
    command += ["--sites", str(options.sites), "--rounds", str(options.rounds)]
    done = subprocess.run(  # noqa: S603 - a fixed command
        command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace) -> dict[str, object]:
    """This checkout, and the other one before and after it."""
    row: dict[str, object] = {"parameters": options.d, "sites": options.sites}
    if options.against is None:
        row |= in_child(HERE, options)
    else:
        others = [in_child(options.against, options)]
        row |= in_child(HERE, options)
        others.append(in_child(options.against, options))
        if any(other["model"] != row["model"] for other in others):
            raise SystemExit("the two checkouts compute different models")
        other_s = min(other["cpu_s"] for other in others)
        row |= {
            "other_cpu_s": other_s,
            "ratio": row["cpu_s"] / other_s,
            "other_peak_vectors": min(other["peak_vectors"] for other in others),
        }
    speed = calibration()
    million = options.d / 1e6
    return {
        **row,
        "calibration_s": speed,
        "cpu_per_million_over_calibration": row["cpu_s"] / million / speed,
        "cpu": cpu_name(),
        "load_average_1min": os.getloadavg()[0],
    }


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--d", type=int, default=CIFAR10_PARAMETERS, help="parameters of the model")
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="counted rounds of each process")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.d < 1 or options.sites < 5 or options.rounds < 1:
        parser.error("expected --d >= 1, --sites >= 5 and --rounds >= 1")
    if options.child:
        print(json.dumps(measure_here(options.d, sites=options.sites, rounds=options.rounds)))
        return
    print_row(compare(options), as_json=options.json)


if __name__ == "__main__":
    main()
