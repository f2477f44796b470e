"""CPU seconds of calibration, and what each accountant says to its result.

::

    python benchmarks/calibration.py --rate 0.01 --steps 1000

Each budget is calibrated in a process of its own, so that no cache helps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.calibration import noise_multiplier_for
from phoenix_secure.privacy.events import Adjacency, PoissonSampledGaussian

BUDGETS = (0.1, 1.0, 8.0, 200.0)


def measure(epsilon: float, *, rate: float, steps: int, delta: float) -> dict[str, object]:
    """Noise for ``epsilon``, its CPU seconds, and all figures under both adjacencies."""
    started = time.process_time()
    noise = noise_multiplier_for(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps)
    seconds = time.process_time() - started
    event = PoissonSampledGaussian(sampling_rate=rate, noise_multiplier=noise, steps=steps)
    row: dict[str, object] = {"epsilon": epsilon, "noise": noise, "cpu_seconds": seconds}
    for adjacency in Adjacency:
        found = epsilon_of([event], delta=delta, adjacency=adjacency)
        row[adjacency.value] = {"quoted": found.value, **found.figures}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--epsilon", type=float, help="this budget alone, as JSON")
    arguments = parser.parse_args()
    asked = {"rate": arguments.rate, "steps": arguments.steps, "delta": arguments.delta}
    if arguments.epsilon is not None:
        print(json.dumps(measure(arguments.epsilon, **asked)))
        return
    flags = [part for name, value in asked.items() for part in (f"--{name}", str(value))]
    print(f"{asked}")
    for epsilon in BUDGETS:
        command = [sys.executable, __file__, "--epsilon", str(epsilon), *flags]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        row = json.loads(done.stdout)
        print(
            f"epsilon {epsilon:<6g} {row['cpu_seconds']:6.2f} CPU s   noise multiplier "
            f"{row['noise']:.4f}"
        )
        for adjacency in Adjacency:
            figures = ", ".join(f"{name} {value:.4f}" for name, value in row[adjacency].items())
            print(f"    {adjacency.value:<18} {figures}")


if __name__ == "__main__":
    main()
