"""A report of five sites that keep their own folders: the server has nothing but its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from phoenix_secure.cli.reporting import report_finished_run
from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.schema import Edition
from phoenix_secure.compliance.verification.verify import load_roster, verify_report
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.folder import FolderEngine
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.site.approval import sign_approval

SITES = tuple(numbered_sites(5))
SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "data.max_images=400",
    "partition.num_sites=5",
    "model.block_channels=[8,8]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "training.batch_size=8",
    "training.local_steps=1",
    "federation.rounds=1",
    "federation.deadline_s=60",
    "privacy.unit=record",
    "privacy.noise_multiplier=0.6",
    "privacy.sampling_rate=0.05",
    "secure_aggregation.max_images=128",
    "secure_aggregation.retry_pause_s=0",
    "secure_aggregation.max_attempts=1",
    "sampling.num_steps=1",
    "evaluation.num_images=0",
    "output.num_samples=1",
    "output.samples_every_rounds=0",
    "device=cpu",
]


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Path]:
    """Five sites that watch a folder, as ``site start`` would."""
    initialise(tmp_path / "f", Deployment(federation="trial", sites=SITES, rehearsal=True))
    stop, threads = threading.Event(), []
    for name in SITES:
        place = SiteFolder(tmp_path / "f" / "sites" / name)
        settings = yaml.safe_load(place.settings_file.read_text())
        (tmp_path / "exchange").mkdir(exist_ok=True)
        settings |= {"server": None, "folder": str(tmp_path / "exchange")}
        place.settings_file.write_text(yaml.safe_dump(settings))
        process = SiteProcess(place, say=lambda text: None)
        threads.append(threading.Thread(target=process.run, args=(stop,)))
        threads[-1].start()
    yield tmp_path
    stop.set()
    for thread in threads:
        thread.join(60)


@pytest.mark.long
def test_a_federation_s_report_verifies_with_the_roster_of_its_owner(federation: Path) -> None:
    server = ServerFolder(federation / "f" / "server")
    job = Run(
        DeployedSites(
            load_config(None, SETTINGS),
            server=server,
            make_engine=lambda session: FolderEngine(
                federation / "exchange", sites=SITES, session=session, poll_s=0.01
            ),
        )
    )
    for name in SITES:
        place = SiteFolder(federation / "f" / "sites" / name)
        owner = place.approver_identity(place.approver_key)
        sign_approval(place.approvals, plan=job.backend.plan.hash, site=name, owner=owner)
    folder = RunFolder(federation / "run")
    state = job.start(folder, overwrite=False)
    for _ in job.rounds(state, folder):
        pass
    job.finish(folder)

    roster = load_roster(server.path / "roster.bin", owner_key=None)
    written = write_report(
        folder.path,
        identity=server.identity(server.roster()),
        edition=Edition.CONFIDENTIAL,
    )
    found = verify_report(written.folder / "report.json", evidence=folder.path, roster=roster)
    assert found.failed == ()
    # The heads that sites kept are at the sites: the report cannot hold them.
    assert found.exit_code == 7
    not_made = [each.name for each in found.checks if each.state.value == "not made"]
    assert not_made == ["heads that sites kept"]
    report = build_report(folder.path)
    assert report.value("B1.fingerprint") is None  # each site's ledger is at the site
    assert report.value("C2.per_site") is not None  # as charged by the server
    assert "0 of 5 from the sites' own ledgers" in str(report.field("C2.per_site").note)
    # As `run --federation` does with output.report: the key lies in the server's folder.
    report_finished_run(folder.path, as_json=True, key=server.identity_key)
    public = verify_report(folder.path / "report" / "report.json", roster=roster)
    assert public.failed == ()
