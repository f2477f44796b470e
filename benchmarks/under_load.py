"""A smoke audit and an evaluation, alone and beside a process that keeps one core busy.

    python benchmarks/under_load.py RUN [--package PATH] [--repetitions 3]

RUN is the folder of a finished run. ``--package`` puts another checkout first on the path, to
measure two states of the code side by side. CPU seconds count: wall time moves with whatever else
the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_LONGEST_S = 1800
_BUSY = f"import time; end = time.monotonic() + {_LONGEST_S}\nwhile time.monotonic() < end: pass"


def measure(arguments: list[str], *, environment: dict[str, str], busy: bool) -> tuple[float, ...]:
    """CPU and wall seconds of one command."""
    neighbour = subprocess.Popen([sys.executable, "-c", _BUSY]) if busy else None  # noqa: S603
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [sys.executable, "-m", "phoenix_secure", *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=_LONGEST_S,
        )
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    if done.returncode not in (0, 3, 4):  # an audit's verdict is its exit code
        raise SystemExit(f"{arguments[0]} ended with {done.returncode}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--package", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--repetitions", type=int, default=1)
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(options.package.resolve())}
    environment.pop("OMP_NUM_THREADS", None)
    print(f"{'command':<10} {'beside':<8} {'CPU s':>8} {'wall s':>8}  load")
    for _ in range(options.repetitions):
        for name in ("audit", "evaluate"):
            for busy in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    run = Path(shutil.copytree(options.run, Path(folder) / "run"))
                    extra = ["--profile", "smoke"] if name == "audit" else []
                    cpu, wall = measure(
                        [name, str(run), *extra], environment=environment, busy=busy
                    )
                beside = "busy" if busy else "nothing"
                load = os.getloadavg()[0]
                print(f"{name:<10} {beside:<8} {cpu:8.1f} {wall:8.1f}  {load:.1f}", flush=True)


if __name__ == "__main__":
    main()
