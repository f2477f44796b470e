"""Two federations of five real sites: as threads around a folder, and as processes over TLS."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml

from phoenix_secure.api.pooled_audits import deployed_run, site_examiner
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.engines.folder import FolderEngine
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.approval import sign_approval
from phoenix_secure.federation.site.own_randomness import own_seeds
from rehearsal import Rehearsal

SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "data.max_images=400",
    "partition.num_sites=5",
    "model.block_channels=[8]",
    "model.attention=[false]",
    "training.batch_size=8",
    "training.local_steps=2",
    "federation.rounds=2",
    "secure_aggregation.max_images=128",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "device=cpu",
]


def simulated(sites, job: Run, *, cache_dir: Path, suite: str | None = None) -> Run:
    """A simulation of ``job`` in which each site has the secret that the deployed one has.

    suite   of keys and signatures, where it is another one than the deployment's
    """
    secure = job.config.secure_aggregation
    secure = secure.model_copy(update={"suite": suite or secure.suite})
    config = job.config.model_copy(update={"secure_aggregation": secure})
    backend = SimulatedSites(config, cache_dir=cache_dir)
    plan = job.backend.plan.hash
    backend.site_seeds = lambda name: own_seeds(sites(name).training_key, plan=plan)
    return Run(backend)


class FolderFederation:
    """Five sites that watch a folder, as ``site start`` would."""

    sites = tuple(numbered_sites(5))
    settings = (
        *SETTINGS,
        "federation.deadline_s=60",
        "secure_aggregation.retry_pause_s=0",
        "secure_aggregation.max_attempts=1",
        "output.num_samples=2",
    )

    def __init__(self, root: Path, *, suite: str = "classical") -> None:
        self.root = root
        self.exchange = root / "exchange"
        self.exchange.mkdir()
        deployment = Deployment(federation="trial", sites=self.sites, rehearsal=True, suite=suite)
        initialise(root / "f", deployment)
        self.server = ServerFolder(root / "f" / "server")
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self.root / "f" / "sites" / name)

    def change(self, name: str, **settings) -> None:
        path = self.site(name).settings_file
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))

    def start(self) -> None:
        """Start the sites, after ``close`` again."""
        self.stop = threading.Event()
        for name in self.sites:
            self.change(name, server=None, folder=str(self.exchange))
            process = SiteProcess(
                self.site(name), say=lambda text: None, make_examiner=site_examiner
            )
            thread = threading.Thread(target=process.run, args=(self.stop,))
            thread.start()
            self.threads.append(thread)

    def engine(self, session: str) -> FolderEngine:
        return FolderEngine(self.exchange, sites=self.sites, session=session, poll_s=0.01)

    def job(self, *overrides: str, approved: bool = True, **more) -> Run:
        config = load_config(None, [*self.settings, *overrides])
        job = deployed_run(
            DeployedSites(config, server=self.server, **{"make_engine": self.engine, **more})
        )
        if approved:
            for name in self.sites:
                place = self.site(name)
                owner = place.approver_identity(place.approver_key)
                sign_approval(place.approvals, plan=job.backend.plan.hash, site=name, owner=owner)
        return job

    def simulation(self, job: Run, **more) -> Run:
        return simulated(self.site, job, cache_dir=self.root / "cache", **more)

    def close(self) -> None:
        self.stop.set()
        while self.threads:
            self.threads.pop().join(60)


class Network(Rehearsal):
    """Server and sites as processes of their own, over TLS on the loopback."""

    settings = (
        *SETTINGS,
        "federation.deadline_s=120",
        "secure_aggregation.grace_s=10",
        "secure_aggregation.training_grace_s=10",
        "secure_aggregation.retry_pause_s=1",
        "secure_aggregation.max_attempts=2",
    )

    def job(self, *overrides: str, approved: bool = True, **more) -> Run:
        config = load_config(None, [*self.settings, *overrides])
        job = Run(DeployedSites(config, server=self.server, **more))
        if approved:
            self.approve(job.backend.plan)
        return job

    def simulation(self, job: Run, *, cache_dir: Path) -> Run:
        return simulated(self.site, job, cache_dir=cache_dir)

    def engine(self, session: str, **more) -> FlowerEngine:
        return FlowerEngine(
            self.server.superlink(self.server.settings()),
            nodes=self.server.nodes(self.server.roster()),
            session=session,
            **more,
        )


@pytest.fixture
def folder_federation(tmp_path: Path):
    made = FolderFederation(tmp_path)
    yield made
    made.close()


@pytest.fixture
def hybrid_federation(tmp_path: Path):
    made = FolderFederation(tmp_path, suite="hybrid_pq")
    yield made
    made.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with Network(tmp_path_factory.mktemp("network") / "federation") as made:
        yield made
