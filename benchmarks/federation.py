"""Secure rounds in simulation: seconds by stage, bytes, and what security costs.

    python benchmarks/federation.py                    # 5, 16 and 64 sites, 0.64 M parameters
    python benchmarks/federation.py --d 35700000 --sites 5
    python benchmarks/federation.py --json

No training: every site answers with a random update, and computes the model from each sum. Real
Flower messages carry real protocol
sessions; promises go to disk with fsync. "plain" is the same model and updates through the same
engine with secure_aggregation.mode=off. Both are measured in turn, the best of several rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.partition import site_names
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.device import num_cores
from phoenix_secure.federation.engines.client_app import client_app
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.engines.in_process import in_process_engine
from phoenix_secure.federation.round.aggregate import Aggregate, Aggregator
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import StageReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.terms import SecureTerms, choose_terms
from phoenix_secure.federation.server.attempt import STAGES, simulation_timeouts
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.run import build_aggregator
from phoenix_secure.federation.simulation.parties import create_parties, place_of
from phoenix_secure.federation.site.build import SiteRun, build_site
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.local import LocalUpdate

DEMO_PARAMETERS = 640_000
NUM_IMAGES = 800
# Flower's SecAgg+ uploads one 8-byte integer for each parameter (measured in benchmarks/secagg.py).
FLOWER_BYTES = 8


class RandomTrainer:
    """Stands in for local training: the same random update at every site, in no time."""

    def __init__(self, num_parameters: int) -> None:
        rng = np.random.default_rng(0)
        self.delta = rng.standard_normal(num_parameters, dtype=np.float32)
        self.delta *= np.float32(0.0125)

    def train(self, *_: object, **__: object) -> LocalUpdate:
        """One update."""
        return LocalUpdate(
            delta=self.delta, num_images=NUM_IMAGES, num_steps=20, loss=0.5, seconds=0.0
        )


class NoStrategies:
    """Stands in for a run's strategies: the whole vector travels, images stay as they are."""

    release = None

    def __init__(self, num_parameters: int, config: RunConfig) -> None:
        self.exchange = SimpleNamespace(
            num_uploaded=num_parameters, num_parameters=num_parameters, num_personal=0
        )
        self._config = config

    def start_vector(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.exchange.num_uploaded, np.float32)

    def model_rule(self, terms: SecureTerms | None, *, plan: bytes) -> ModelRule | None:
        """How server and sites compute the model."""
        if terms is None or self._config.secure_aggregation.broadcast != "sum":
            return None
        return ModelRule.of(self._config, terms=terms, plan=plan, start=self.start_vector)

    def aggregator(self, inner: Aggregator) -> Aggregator:
        """The aggregator itself."""
        return inner

    def site(
        self, name: str, own: SiteImages, *, folder: Path, seeds: SeedTree
    ) -> tuple[SiteImages, None]:
        """The images themselves."""
        return own, None


def run_round(
    aggregator: Aggregator, request: TrainRequest, cohort: tuple[str, ...]
) -> tuple[Aggregate, list[StageReport], float]:
    """The outcome of one round, its stages and its seconds."""
    reports: list[StageReport] = []
    started = time.perf_counter()
    stages = aggregator.aggregate(request, cohort=cohort)
    while True:
        try:
            reports.append(next(stages))
        except StopIteration as end:
            return end.value, reports, time.perf_counter() - started


class Parties:
    """A server and sites, assembled as in a simulation."""

    def __init__(self, path: Path, *, num_sites: int, num_parameters: int) -> None:
        self.folder, self.names = RunFolder(path), site_names(num_sites)
        self.config = load_config(
            None, [f"partition.num_sites={num_sites}", "federation.rounds=1000", "device=cpu"]
        ).with_split()
        self.terms = choose_terms(
            self.config, num_parameters=num_parameters, largest_site=NUM_IMAGES
        )
        self.strategies = NoStrategies(num_parameters, self.config)
        self.rule = self.strategies.model_rule(self.terms, plan=bytes(32))
        self.state = ServerState.initial(
            self.strategies.start_vector(), federation=self.config.federation
        )
        self.trainer = RandomTrainer(num_parameters)
        self.folder.create(self.config, overwrite=False)
        self.keys = create_parties(self.folder, sites=self.names, secure=True)
        SecureJournal.create(self.folder.server_rounds)

    @contextmanager
    def aggregator(self, *, secure: bool) -> Iterator[Aggregator]:
        """The server's side of rounds that are secure, or not."""
        backend = SimpleNamespace(
            config=self.config,
            terms=self.terms if secure else None,
            rule=self.rule if secure else None,
            sites=self.names,
            sites_forget=True,
            strategies=self.strategies,
            timeouts=simulation_timeouts(self.config),
        )
        party = ServerParty(
            identity=self.keys.server, roster=self.keys.roster, round_roster=self.keys.roster
        )
        engine = self._engine(secure=secure)
        try:
            yield build_aggregator(
                backend, engine, party=party, folder=self.folder, state=self.state
            )
        finally:
            engine.close()

    def _engine(self, *, secure: bool) -> Engine:
        run = SiteRun(
            id="benchmark",
            config=self.config,
            strategies=self.strategies,
            terms=self.terms if secure else None,
            rule=self.rule if secure else None,
            privacy=None,
            cancelled=threading.Event(),
        )
        handlers = {
            name: build_site(
                name,
                SiteImages(images=np.zeros((1, 1, 1, 1), np.uint8), labels=None),
                run=run,
                place=place_of(self.folder, name, keys=self.keys, seeds=SeedTree(0)),
                trainer=self.trainer,
            )
            for name in self.names
        }
        return in_process_engine(
            client_app(lambda site, stage, body: handlers[site](stage, body)),
            sites=self.names,
            num_workers=num_cores(),
        )


def measure(num_sites: int, num_parameters: int, repetitions: int) -> dict[str, object]:
    """One row: the best total of ``repetitions`` rounds, its stages, and the plaintext round."""
    best: dict[str, object] = {}
    plain_s = float("inf")
    with tempfile.TemporaryDirectory() as path:
        parties = Parties(Path(path), num_sites=num_sites, num_parameters=num_parameters)
        with (
            parties.aggregator(secure=True) as secure,
            parties.aggregator(secure=False) as plain,
        ):
            state = parties.state
            for number in range(1, repetitions + 1):
                request = TrainRequest(round_number=number, parameters=state.parameters)
                found, reports, total = run_round(secure, request, parties.names)
                state = found.state
                if total < best.get("secure_s", float("inf")):
                    best = {"secure_s": total} | {r.stage: r.seconds for r in reports}
                reference, _, seconds = run_round(plain, request, parties.names)
                plain_s = min(plain_s, seconds)
        bound = parties.terms.rounding_bound(num_sites=num_sites, num_images=num_sites * NUM_IMAGES)
        assert np.abs(found.update - reference.update).max() < bound + 1e-6
    return {
        "sites": num_sites,
        "parameters": num_parameters,
        **best,
        "plain_s": plain_s,
        "bytes_up_per_parameter": found.bytes_up / num_sites / num_parameters,
        "plain_bytes_up_per_parameter": reference.bytes_up / num_sites / num_parameters,
        "bytes_down_per_parameter": found.bytes_down / num_sites / num_parameters,
        "plain_bytes_down_per_parameter": reference.bytes_down / num_sites / num_parameters,
    }


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--d", type=int, default=DEMO_PARAMETERS, help="parameters of the model")
    parser.add_argument("--sites", type=int, nargs="+", default=[5, 16, 64])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.d < 1 or min(options.sites) < 5 or options.repetitions < 1:
        parser.error("expected --d >= 1, --sites >= 5 and --repetitions >= 1")
    rows = [measure(n, options.d, options.repetitions) for n in options.sites]
    if options.json:
        print(json.dumps({"rows": rows, "load_average_1min": os.getloadavg()[0]}, indent=1))
        return
    print(
        f"| sites | parameters | {' | '.join(STAGES)} | secure s | plain s | bytes up/parameter |"
    )
    print("|" + "---|" * (len(STAGES) + 5))
    for row in rows:
        stages = " | ".join(f"{row[stage]:.3f}" for stage in STAGES)
        print(
            f"| {row['sites']} | {row['parameters']:,} | {stages} | {row['secure_s']:.3f} | "
            f"{row['plain_s']:.3f} | {row['bytes_up_per_parameter']:.5f} |"
        )
    print(
        f"\nbytes up per parameter: float32 {rows[0]['plain_bytes_up_per_parameter']:.5f}, "
        f"Flower's SecAgg+ {FLOWER_BYTES}; down, all stages: "
        f"{rows[0]['bytes_down_per_parameter']:.5f}, "
        f"of a model {rows[0]['plain_bytes_down_per_parameter']:.5f}"
    )
    print(f"{num_cores()} cores, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
