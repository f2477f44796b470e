"""Cost of faults: TLS, SuperLink and five sites as processes on this machine, five rounds.

    python benchmarks/faults.py [--out FOLDER] [--only NAME ...]

Each scenario is a run of its own over the same warm sites. Its plan differs from the others in a
setting that no weight depends on (the number of samples), because no site ever answers one
round of one plan twice.

`lost` is against five times the median of the run's other rounds: it also holds the start of the
run, and is a rough figure on a busy machine. `weights` says whether the final weights are those of
the run without a fault (same sites in every sum), or of the other runs in which the same site
missed the same sum.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import dump_config, load_config
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.round.report import StageReport
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.attempt import STAGES
from phoenix_secure.federation.server.run import Run
from rehearsal import Rehearsal

VICTIM = "site-05"
ROUND = 2
SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "data.max_images=400",
    "partition.num_sites=5",
    "model.block_channels=[8,16]",
    "model.attention=[false,false]",
    "training.batch_size=8",
    "training.local_steps=2",
    "federation.rounds=5",
    "federation.deadline_s=120",
    "secure_aggregation.max_images=128",
    "secure_aggregation.training_grace_s=8",
    "secure_aggregation.grace_s=8",
    "secure_aggregation.stage_deadline_s=60",
    "secure_aggregation.retry_pause_s=1",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "device=cpu",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """One row of the table."""

    scenario: str
    seconds: float
    seconds_lost: float
    what: str
    survivors: list[int]  # sites in the sum of each round
    weights: str  # SHA-256 of the final parameters, shortened


def settings_of(number: int) -> RunConfig:
    return load_config(None, [*SETTINGS, f"output.num_samples={number + 1}"])


class Bench:
    def __init__(self, rehearsal: Rehearsal, out: Path) -> None:
        self.rehearsal = rehearsal
        self.out = out
        self.outcomes: list[Outcome] = []
        self._number = 0

    def run_here(self, name: str, fault: Callable[[StageReport], object] | None = None) -> None:
        """A run driven by this process; ``fault`` sees every finished stage."""
        job, folder = self._job(name)
        started = time.monotonic()
        state = job.start(folder, overwrite=True)
        idle = 0.0
        for report in job.events(state, folder):
            if isinstance(report, StageReport):
                if fault is not None:
                    fault(report)
                continue
            # A killed site is back for the next round, so that all runs differ in one sum only.
            before = time.monotonic()
            if report.round_number >= ROUND and not self.rehearsal.is_running(VICTIM):
                self.rehearsal.start(VICTIM)
                self.rehearsal.wait_started(VICTIM)
                time.sleep(1)
            idle += time.monotonic() - before
            print(
                f"  {name}: round {report.round_number} over {len(report.sites)} sites", flush=True
            )
        self._note(name, folder, time.monotonic() - started - idle)

    def run_elsewhere(self, name: str, *, kill_after: Callable[[dict], bool]) -> None:
        """A run driven by a process that gets SIGKILL at one event, then ``resume``."""
        job, folder = self._job(name)
        settings = self.out / f"{name}.yaml"
        settings.write_text(dump_config(job.config))
        started = time.monotonic()
        common = ["--federation", str(self.rehearsal.server.path), "--format", "json"]
        log = self.out / f"{name}.jsonl"
        process = self.rehearsal.command(
            "run", str(settings), "--run-dir", str(folder.path), "--overwrite", *common, log=log
        )
        try:
            wait_for(log, process, kill_after)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        process = self.rehearsal.command("resume", str(folder.path), *common, log=log)
        if process.wait(300) != 0:
            raise SystemExit(f"{name}: resume failed: see {log}")
        self._note(name, folder, time.monotonic() - started)

    def _job(self, name: str) -> tuple[Run, RunFolder]:
        self._number += 1
        config = settings_of(self._number)
        job = Run(DeployedSites(config, server=self.rehearsal.server))
        self.rehearsal.approve(job.backend.plan)
        return job, RunFolder(self.out / name)

    def _note(self, name: str, folder: RunFolder, seconds: float) -> None:
        config = folder.load_config()
        state = folder.load_state(config=config)
        lines = folder.read_metrics()
        attempts = sum(line["secure"]["attempts"] - 1 for line in lines)
        dropouts = [
            f"round {line['round_number']}: {site} {code} in {stage}"
            for line in lines
            for stage, missing in line["secure"]["dropouts"].items()
            for site, code in missing.items()
        ]
        # Against the run's own quiet rounds: the machine may be busier than an hour ago.
        quiet = statistics.median(
            line["seconds"] for line in lines if line["round_number"] != ROUND
        )
        outcome = Outcome(
            scenario=name,
            seconds=round(seconds, 1),
            seconds_lost=round(seconds - quiet * len(lines), 1),
            what="; ".join([*dropouts, *([f"{attempts} failed attempts"] if attempts else [])]),
            survivors=[len(line["sites"]) for line in lines],
            weights=hashlib.sha256(state.parameters.tobytes()).hexdigest()[:12],
        )
        self.outcomes.append(outcome)
        print(json.dumps(dataclasses.asdict(outcome)), flush=True)


def wait_for(log: Path, process, wanted: Callable[[dict], bool]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        for text in log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                if wanted(json.loads(text)):
                    return
        if process.poll() is not None:
            raise SystemExit(f"the run ended by itself: see {log}")
        time.sleep(0.05)
    raise SystemExit(f"the event did not come: see {log}")


def after(stage: str) -> Callable[[dict], bool]:
    return lambda line: (
        line.get("event") == "stage" and line["training_round"] == ROUND and line["stage"] == stage
    )


def scenarios(bench: Bench) -> dict[str, Callable[[], None]]:
    rehearsal = bench.rehearsal

    def kill_before(stage: str) -> Callable[[StageReport], object]:
        """SIGKILL once the stage before is over: the victim never answers ``stage``."""
        position = STAGES.index(stage)
        previous = (ROUND - 1, STAGES[-1]) if position == 0 else (ROUND, STAGES[position - 1])

        def fault(report: StageReport) -> None:
            if (report.training_round, report.stage) == previous:
                rehearsal.kill(VICTIM)

        return fault

    def restart_superlink(report: StageReport) -> None:
        if (report.training_round, report.stage) == (ROUND, "share") and not done:
            done.append(True)
            rehearsal.kill_superlink()

    done: list[bool] = []

    def restart_site(report: StageReport) -> None:
        if (report.training_round, report.stage) == (ROUND, STAGES[-1]):
            rehearsal.kill(VICTIM, signum=signal.SIGTERM)

    found: dict[str, Callable[[], None]] = {"no fault": lambda: bench.run_here("no fault")}
    for stage in STAGES:
        name = f"site killed before {stage}"
        found[name] = lambda name=name, stage=stage: bench.run_here(name, kill_before(stage))
    found["site restarted between rounds"] = lambda: bench.run_here(
        "site restarted between rounds", restart_site
    )
    moments = {
        "announce": after("announce"),
        "check": after("check"),
        "the round": lambda line: line.get("event") == "round" and line["round_number"] == ROUND,
    }
    for moment, wanted in moments.items():
        name = f"server killed after {moment}"
        found[name] = lambda name=name, wanted=wanted: bench.run_elsewhere(name, kill_after=wanted)
    found["SuperLink killed in a round"] = lambda: bench.run_here(
        "SuperLink killed in a round", restart_superlink
    )
    return found


def table(outcomes: list[Outcome]) -> str:
    base = outcomes[0].weights
    missed = {o.weights for o in outcomes if min(o.survivors) < 5}
    lines = [
        "| fault | seconds | lost | sites in each sum | what happened | weights |",
        "|---|---:|---:|---|---|---|",
    ]
    for o in outcomes:
        same = "as without fault" if o.weights == base else "differ"
        if o.weights != base and min(o.survivors) < 5:
            same = "as the others that missed it" if len(missed) == 1 else "differ among those"
        sums = " ".join(map(str, o.survivors))
        lines.append(
            f"| {o.scenario} | {o.seconds} | {o.seconds_lost} | {sums} | {o.what or '-'} | {same} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    # Whoever stops us must not leave a federation behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = given.out or Path(tempfile.mkdtemp(prefix="phoenix-faults-"))
    out.mkdir(parents=True, exist_ok=True)
    with Rehearsal(out / "federation") as rehearsal:
        bench = Bench(rehearsal, out)
        for name, run in scenarios(bench).items():
            if given.only and name != "no fault" and not any(part in name for part in given.only):
                continue
            run()
            rehearsal.wait_online(rehearsal.sites)
    (out / "faults.json").write_text(
        json.dumps([dataclasses.asdict(o) for o in bench.outcomes], indent=2)
    )
    print(table(bench.outcomes))


if __name__ == "__main__":
    main()
