"""Every speed ratio on one page, beside its aim: what `make bench` runs.

    python benchmarks/page.py                       # all of them, sized for under ten minutes
    python benchmarks/page.py --only large-round    # those whose name holds this
    python benchmarks/page.py --only time-to-quality   # hours: only when it is named, or --all
    python benchmarks/page.py --no-write            # print only

Each ratio compares two things measured side by side in one run, mostly in CPU seconds; none is wall
time of one machine. Rows are added to docs/results/performance.csv, by which a ratio can be
followed over versions, and docs/performance.md is written from the newest row of each.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ROWS, PAGE = ROOT / "docs/results/performance.csv", ROOT / "docs/performance.md"
USUAL_HOURS = 1 / 4


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One figure. ``aim`` is a bound: from above where ``at_most``, else from below."""

    name: str
    value: float
    aim: float
    at_most: bool = True

    @property
    def bound(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.aim:.3g}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the CSV; ``calibration`` is CPU seconds of a fixed mix of work (machine.py)."""

    version: str
    benchmark: str
    ratio: str
    aim: str
    calibration: str
    date: str

    @property
    def is_met(self) -> bool:
        sign, _, bound = self.aim.partition(" ")
        found = float(self.ratio)
        return found <= float(bound) if sign == "<=" else found >= float(bound)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A script that prints one JSON object, and the ratios in it.

    what    is compared with what, by the ratio's name or its end
    hours   it may take; above the usual it runs only when it is named, or with ``--all``
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    ratios: Callable[[Any], Iterable[Ratio]]
    what: dict[str, str]
    hours: float = USUAL_HOURS


def private_steps(found: Any) -> Iterable[Ratio]:
    for row in found["rows"]:
        if row["way"] != "plain":
            time_ratio, memory = row["time_ratio"], row["memory_ratio"]
            yield Ratio(name=f"private-step/{row['preset']}/time", value=time_ratio, aim=1.3)
            yield Ratio(name=f"private-step/{row['preset']}/memory", value=memory, aim=2.0)


def large_round(found: Any) -> Iterable[Ratio]:
    # 24.5 CPU seconds for 35.7 M parameters were 4.0 in these units before rounds streamed; 4 s of
    # wall time in place of 12.4 s is 0.32 of that.
    cost = found["cpu_per_million_over_calibration"]
    yield Ratio(name="large-round/cpu", value=cost, aim=1.3)
    yield Ratio(name="large-round/memory", value=found["peak_vectors"], aim=6.0)


def aggregation(found: Any) -> Iterable[Ratio]:
    for name, key, aim in (
        ("secure-sum/masks-of-aes", "mask_fraction_of_limit", 0.8),
        ("secure-sum/flower", "overall_ratio_to_flower_1t", 10.0),
        ("secure-sum/recovery", "recovery_ratio_to_flower_1t", 5.0),
    ):
        yield Ratio(name=name, value=found[key], aim=aim, at_most=False)
    size = found["bytes_per_parameter"] / found["flower_bytes_per_parameter"]
    yield Ratio(name="secure-sum/bytes", value=size, aim=0.5)


def local_training(found: Any) -> Iterable[Ratio]:
    for row in found["rows"]:
        if row["way"] == "as run":
            name, value = f"training/{row['preset']}", row["ratio_to_plain"]
            yield Ratio(name=name, value=value, aim=1.0, at_most=False)


BENCHMARKS = (
    Benchmark(
        name="private-step",
        script="dp.py",
        arguments=("--ways", "layers", "--turns", "3"),
        ratios=private_steps,
        what={
            "time": "DP-SGD step / plain step of the same 64 images, CPU time",
            "memory": "the same, memory above the start",
        },
    ),
    Benchmark(
        name="large-round",
        script="large_round.py",
        arguments=("--d", "8000000"),
        ratios=large_round,
        what={
            "cpu": "CPU seconds of a secure round of five sites in one process, for a million "
            "parameters / calibration",
            "memory": "peak of server and five sites together above the start / the model's size",
        },
    ),
    Benchmark(
        name="secure-sum",
        script="secagg.py",
        arguments=("--d", "2000000", "--k", "16"),
        ratios=aggregation,
        what={
            "masks-of-aes": "AES-256-CTR alone / adding masks, one thread",
            "flower": "Flower's SecAgg+ / a site and the server's part for it, one thread",
            "recovery": "Flower's SecAgg+ / recovery of one drop-out, one thread",
            "bytes": "bytes of an upload / Flower's SecAgg+",
        },
    ),
    Benchmark(
        name="training",
        script="training.py",
        arguments=("--presets", "tiny", "tiny-s2d", "small"),
        ratios=local_training,
        what={"": "images per second as sites are trained / plain eager float32"},
    ),
    Benchmark(
        name="sampling",
        script="sampling.py",
        arguments=("--images", "256", "--steps", "150"),
        ratios=lambda found: [
            Ratio(name="sampling/time", value=found["time_ratio"], aim=1 / 3),
            Ratio(name="sampling/frechet", value=found["frechet_ratio"], aim=1.05),
        ],
        what={
            "time": "dpm-solver, 15 steps / diffusers' DDIM loop, 50 steps, CPU time",
            "frechet": "Frechet distance to real digits, of the same two sets of samples",
        },
    ),
    Benchmark(
        name="freed-memory",
        script="freed_memory.py",
        arguments=(),
        ratios=lambda found: [
            Ratio(name=f"freed-memory/{preset}", value=value, aim=1.0, at_most=False)
            for preset, value in found.items()
        ],
        what={"": "a training step as glibc has it / with freed memory kept, CPU time"},
    ),
    Benchmark(
        name="time-to-quality",
        script="time_to_quality.py",
        arguments=("--seconds", "600"),
        ratios=lambda found: [
            Ratio(name=f"time-to-quality/{name}", value=value, aim=1 / 3)
            for name, value in found["shares"].items()
        ],
        what={"": "our CPU time to the KID of a diffusers loop of ten CPU minutes / its time"},
        hours=4,
    ),
    Benchmark(
        name="evidence",
        script="evidence.py",
        arguments=("--rounds", "2000"),
        ratios=lambda found: [
            Ratio(name="evidence/growth", value=found["last_over_first"], aim=1.2)
        ],
        what={"growth": "evidence of a round, last tenth of 2,000 / first tenth, CPU time"},
    ),
    Benchmark(
        name="reading",
        script="reading.py",
        arguments=("--images", "10000"),
        ratios=lambda found: [
            Ratio(
                name="reading/second-start",
                value=found["second"]["cpu_s"] / found["first"]["cpu_s"],
                aim=0.67,
            )
        ],
        what={"second-start": "a folder of 10,000 PNGs read again / read first, CPU time"},
    ),
)


def measure(benchmark: Benchmark) -> list[Ratio]:
    """Run the script in a process of its own.

    Raises:     subprocess.CalledProcessError, TimeoutExpired.
    """
    command = [sys.executable, str(HERE / benchmark.script), *benchmark.arguments, "--json"]
    done = subprocess.run(  # noqa: S603 - a fixed command
        command, check=True, capture_output=True, text=True, timeout=benchmark.hours * 3600
    )
    return list(benchmark.ratios(json.loads(done.stdout[done.stdout.index("{") :])))


def version() -> str:
    """The package's version and the commit, with a + where the tree has changes."""
    from phoenix_secure import __version__

    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return str(__version__)
    return f"{__version__}/{done.stdout.strip()}"


def read_rows(path: Path) -> list[Row]:
    """The rows of all versions, oldest first."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Row(**line) for line in csv.DictReader(file)]


def write_rows(rows: list[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        columns = [each.name for each in fields(Row)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def meaning(name: str) -> str:
    """What a ratio compares."""
    first, _, rest = name.partition("/")
    for benchmark in BENCHMARKS:
        if benchmark.name == first:
            return benchmark.what.get(rest.rpartition("/")[2]) or benchmark.what.get("", "")
    return ""


def page(rows: list[Row]) -> str:
    """``docs/performance.md``: the newest row of each benchmark."""
    newest = {row.benchmark: row for row in rows}
    lines = [
        "# Speed",
        "",
        "Written by `make bench` (`benchmarks/page.py`), from the newest row of each ratio in",
        "[results/performance.csv](results/performance.csv). Two things that ran side by side are",
        "compared, mostly in CPU seconds: machines differ threefold. *Calibration* is the speed of",
        "the machine: CPU seconds of a fixed mix of hashing, AES, memory and convolutions",
        "(`benchmarks/machine.py`). Aims that are not met stay on the page.",
        "",
        "| ratio | what is compared | found | aim | | calibration | version | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in newest.values():
        met = "met" if row.is_met else "**not met**"
        cells = (row.benchmark, meaning(row.benchmark), row.ratio, row.aim, met)
        lines.append(f"| {' | '.join([*cells, row.calibration, row.version, row.date])} |")
    return "\n".join(lines) + "\n" + (HERE / "page_notes.md").read_text()


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the names of the benchmarks to run")
    parser.add_argument("--all", action="store_true", help="those that take hours, too")
    parser.add_argument("--no-write", action="store_true", help="print, and write no file")
    options = parser.parse_args()
    chosen = [
        each
        for each in BENCHMARKS
        if options.only in each.name
        and (options.all or options.only == each.name or each.hours <= USUAL_HOURS)
    ]
    if not chosen:
        parser.error(f"expected --only to be part of {', '.join(b.name for b in BENCHMARKS)}")
    from machine import calibration, cpu_name  # torch: the page alone needs none

    speed, started = calibration(), time.perf_counter()
    print(f"{cpu_name()}; calibration {speed:.3f} CPU s\n", flush=True)
    rows: list[Row] = []
    failed = []
    for benchmark in chosen:
        try:
            ratios = measure(benchmark)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            failed.append(benchmark.name)
            print(f"{benchmark.name:28} failed: {error}", file=sys.stderr)
            continue
        for ratio in ratios:
            row = Row(
                version=version(),
                benchmark=ratio.name,
                ratio=f"{ratio.value:.3g}",
                aim=ratio.bound,
                calibration=f"{speed:.3f}",
                date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            )
            rows.append(row)
            met = "met" if row.is_met else "NOT MET"
            print(f"{row.benchmark:28} {row.ratio:>8}   aim {row.aim:8} {met}", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")
    if not options.no_write:
        every = read_rows(ROWS) + rows
        write_rows(every, ROWS)
        PAGE.write_text(page(every))
        print(f"rows added to {ROWS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)} written")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
