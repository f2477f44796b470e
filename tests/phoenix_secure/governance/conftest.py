"""A federation of five sites whose plans come through a real SyftBox on a plain folder."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.folder import FolderEngine
from phoenix_secure.federation.server.run import Run
from phoenix_secure.governance.desk import ReviewDesk
from phoenix_secure.governance.propose import Proposer, job_name

SETTINGS = (
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "data.max_images=400",
    "partition.num_sites=5",
    "model.block_channels=[8]",
    "model.attention=[false]",
    "training.batch_size=8",
    "training.local_steps=2",
    "federation.rounds=1",
    "federation.deadline_s=60",
    "secure_aggregation.max_images=128",
    "secure_aggregation.retry_pause_s=0",
    "secure_aggregation.max_attempts=1",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "output.num_samples=2",
    "device=cpu",
)


class GovernedFederation:
    """Five sites that say ``approver: syft`` and watch a folder, as ``site start`` would."""

    sites = tuple(numbered_sites(5))

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exchange = root / "exchange"
        self.exchange.mkdir()
        self.syftbox = root / "syftbox"
        self.syftbox.mkdir()
        initialise(root / "f", Deployment(federation="trial", sites=self.sites, rehearsal=True))
        self.server = ServerFolder(root / "f" / "server")
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        for name in self.sites:
            self.change(
                name,
                server=None,
                folder=str(self.exchange),
                approver="syft",
                syft={"folder": str(self.syftbox)},
            )

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self.root / "f" / "sites" / name)

    def change(self, name: str, **settings) -> None:
        path = self.site(name).settings_file
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))

    def policy(self, name: str, **rules) -> None:
        old = yaml.safe_load(self.site(name).settings_file.read_text())["policy"]
        self.change(name, policy=old | rules)

    def desk(self, name: str) -> ReviewDesk:
        return ReviewDesk(self.site(name))

    def config(self, *overrides: str):
        return load_config(None, [*SETTINGS, *overrides])

    def propose(self, *overrides: str, name: str | None = None, **more) -> Proposer:
        more = {"release": "consortium", "purpose": "a test of consent"} | more
        proposer = Proposer(self.config(*overrides), server=self.server, **more)
        proposer.submit(self.syftbox, name=name or job_name(proposer.plan))
        return proposer

    def approve(self, site: str, plan: str, *, days: int = 30) -> Path:
        """Review, then approve, as two commands would."""
        place = self.site(site)
        desk = self.desk(site)
        desk.keep(desk.find(plan))
        owner = place.approver_identity(place.approver_key)
        return desk.approve(desk.find(plan), owner=owner, days=days)

    def inbox(self, site: str, job: str) -> Path:
        """The folder of a job, which its submitter can write to."""
        owner, sender = f"{site}@trial.invalid", "server@trial.invalid"
        return self.syftbox / owner / "app_data" / "job" / "inbox" / sender / "v1" / job

    def review_folder(self, site: str, job: str) -> Path:
        path = self.inbox(site, job)
        parts = ["review" if part == "inbox" else part for part in path.parts]
        return Path(*parts)

    def start(self) -> None:
        for name in self.sites:
            place = self.site(name)
            process = SiteProcess(place, say=lambda text: None, approver=self.desk(name).approver())
            thread = threading.Thread(target=process.run, args=(self.stop,))
            thread.start()
            self.threads.append(thread)

    def job(self, *overrides: str) -> Run:
        return Run(
            DeployedSites(
                self.config(*overrides),
                server=self.server,
                make_engine=lambda session: FolderEngine(
                    self.exchange, sites=self.sites, session=session, poll_s=0.01
                ),
            )
        )

    def log(self, site: str) -> list[dict]:
        return self.site(site).audit().lines()

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


@pytest.fixture
def governed(tmp_path: Path):
    made = GovernedFederation(tmp_path)
    yield made
    made.close()
