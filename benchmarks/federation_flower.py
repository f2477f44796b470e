"""Secure rounds over Flower: TLS, SuperLink, Fleet proxy and five sites as separate processes.

    python benchmarks/federation_flower.py                       # 0.64 M parameters
    python benchmarks/federation_flower.py --d 35700000 --repetitions 2

The processes are those of a deployment, with one change: a site answers with a random update in
place of training, of as many parameters as asked for. "plain" is the same with
secure_aggregation.mode=off. Best of several rounds; all of them on this machine, so that sites
share its cores and its loopback, and no network slows anything down.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import yaml
from federation import DEMO_PARAMETERS, NoStrategies, RandomTrainer, run_round

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from phoenix_secure.config_file import load_config
from phoenix_secure.device import num_cores
from phoenix_secure.federation.engines.bundle import bundle_hash, make_bundle
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.round.aggregate import Aggregator
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.stages import PLAN_STAGE
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.plan import Plan, plan_roster
from phoenix_secure.federation.secagg.terms import choose_terms
from phoenix_secure.federation.server.attempt import STAGES, deployment_timeouts
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.run import build_aggregator
from rehearsal import Rehearsal

SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "data.max_images=400",
    "partition.num_sites=5",
    "federation.rounds=1000",
    "federation.min_sites=5",
    "secure_aggregation.max_images=1024",
    "evaluation.num_images=0",
    "device=cpu",
]


class Bench(Rehearsal):
    """A rehearsal whose sites are started by this file."""

    def __init__(self, root: Path, *, num_parameters: int) -> None:
        super().__init__(root)
        self.num_parameters = num_parameters
        for name in self.sites:
            path = self.site(name).settings_file
            settings = yaml.safe_load(path.read_text())
            settings.setdefault("policy", {})["require_secure_aggregation"] = False
            path.write_text(yaml.safe_dump(settings))

    def start(self, name: str) -> None:
        if name == "server":
            super().start(name)
            return
        self._processes[name] = self.program(
            [__file__, "--site", str(self.site(name).path), "--d", str(self.num_parameters)],
            log=self.root / f"{name}.log",
        )

    def measure(self, mode: str, repetitions: int) -> dict[str, float]:
        """The best of ``repetitions`` rounds: seconds in all, and by stage."""
        config = load_config(None, [*SETTINGS, f"secure_aggregation.mode={mode}"])
        roster = self.server.roster()
        bundle = make_bundle()
        plan = Plan.make(config, roster=roster, bundle_hash=bundle_hash(bundle))
        self.approve(plan)
        engine = FlowerEngine(
            self.server.superlink(self.server.settings()),
            nodes=self.server.nodes(roster),
            session=plan.hash,
            bundle=bundle,
        )
        engine.exchange(PLAN_STAGE, dict.fromkeys(self.sites, plan.to_bytes()), deadline_s=300)
        aggregator, state = self._aggregator(engine, plan)
        best: dict[str, float] = {"all": float("inf")}
        for number in range(1, repetitions + 1):
            request = TrainRequest(round_number=number, parameters=state.parameters)
            found, reports, seconds = run_round(aggregator, request, self.sites)
            state = found.state or state
            if seconds < best["all"]:
                best = {"all": seconds} | {report.stage: report.seconds for report in reports}
        engine.close()
        return best

    def _aggregator(self, engine: FlowerEngine, plan: Plan) -> tuple[Aggregator, ServerState]:
        """The server's side, and the state that it starts from."""
        config, terms = plan.config, None
        if config.secure_aggregation.mode == "on":
            terms = choose_terms(config, num_parameters=self.num_parameters)
        folder, roster = RunFolder(self.root / "run"), self.server.roster()
        if terms is not None:
            SecureJournal.create(folder.server_rounds)
        strategies = NoStrategies(self.num_parameters, config)
        state = ServerState.initial(strategies.start_vector(), federation=config.federation)
        backend = SimpleNamespace(
            config=config,
            terms=terms,
            rule=strategies.model_rule(terms, plan=bytes.fromhex(plan.hash)),
            sites=self.sites,
            sites_forget=False,
            strategies=strategies,
            timeouts=deployment_timeouts(config),
        )
        party = ServerParty(
            identity=self.server.identity(roster),
            roster=roster,
            round_roster=plan_roster(roster, plan),
        )
        aggregator = build_aggregator(backend, engine, party=party, folder=folder, state=state)
        return aggregator, state


def serve_site(folder: str, num_parameters: int) -> None:
    """`phoenix-secure site start FOLDER`, without the training."""
    from phoenix_secure.cli.app import main as phoenix_secure
    from phoenix_secure.federation.deployment import site_installation as installation

    replaced = {
        "deployment_strategies": lambda config, **_: NoStrategies(num_parameters, config),
        "make_trainer": lambda *_, **__: RandomTrainer(num_parameters),
    }
    for name, replacement in replaced.items():
        assert hasattr(installation, name), name  # else sites would quietly train
        setattr(installation, name, replacement)
    sys.argv = ["phoenix-secure", "site", "start", folder]
    phoenix_secure()


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--d", type=int, default=DEMO_PARAMETERS, help="parameters of the model")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--site", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.d < 1 or options.repetitions < 1:
        parser.error("expected --d >= 1 and --repetitions >= 1")
    if options.site:
        serve_site(options.site, options.d)
        return
    with (
        tempfile.TemporaryDirectory(prefix="phoenix-bench-") as path,
        Bench(Path(path) / "federation", num_parameters=options.d) as bench,
    ):
        secure = bench.measure("on", options.repetitions)
        plain = bench.measure("off", options.repetitions)
    row = {"sites": 5, "parameters": options.d, **secure, "plain": plain["all"]}
    if options.json:
        print(json.dumps(row | {"load_average_1min": os.getloadavg()[0]}, indent=1))
        return
    print(f"| sites | parameters | {' | '.join(STAGES)} | secure, all | plain, all |")
    print("|" + "---|" * (len(STAGES) + 4))
    stages = " | ".join(f"{secure[stage]:.2f}" for stage in STAGES)
    print(f"| 5 | {options.d:,} | {stages} | {secure['all']:.1f} | {plain['all']:.1f} |")
    print(f"\n{num_cores()} cores, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
