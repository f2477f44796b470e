"""A federation of five real sites around a folder, and what one of them keeps after a run."""

from __future__ import annotations

import threading
from pathlib import Path

import yaml

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.folder import FolderEngine
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.site.approval import sign_approval

SITES = tuple(numbered_sites(5))
SETTINGS = (
    *("data.name=digits", "data.image_size=8", "data.channels=1", "data.max_images=400"),
    *("partition.num_sites=5", "model.block_channels=[8,8]", "model.attention=[false,false]"),
    *("model.mid_attention=false", "training.batch_size=8", "training.local_steps=1"),
    *("federation.deadline_s=60", "secure_aggregation.max_images=128"),
    *("secure_aggregation.retry_pause_s=0", "secure_aggregation.max_attempts=1"),
    *("sampling.num_steps=1", "evaluation.num_images=0", "output.num_samples=1"),
    *("output.samples_every_rounds=0", "device=cpu"),
)


def serve(root: Path, *overrides: str) -> Plan:
    """Make a federation below ``root``, run a plan to its end, stop; returns the plan."""
    initialise(root / "f", Deployment(federation="trial", sites=SITES, rehearsal=True))
    job = Run(
        DeployedSites(
            load_config(None, [*SETTINGS, *overrides]),
            server=ServerFolder(root / "f" / "server"),
            make_engine=lambda session: FolderEngine(
                root / "exchange", sites=SITES, session=session, poll_s=0.01
            ),
        )
    )
    stop, threads = threading.Event(), []
    for name in SITES:
        place = SiteFolder(root / "f" / "sites" / name)
        settings = yaml.safe_load(place.settings_file.read_text())
        settings |= {"server": None, "folder": str(root / "exchange")}
        place.settings_file.write_text(yaml.safe_dump(settings))
        process = SiteProcess(place, say=lambda text: None)
        approve(place, job.backend.plan)
        threads.append(threading.Thread(target=process.run, args=(stop,)))
        threads[-1].start()
    try:
        folder = RunFolder(root / "run")
        state = job.start(folder, overwrite=False)
        for _ in job.rounds(state, folder):
            pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    return job.backend.plan


def approve(place: SiteFolder, plan: Plan) -> None:
    """The owner of the site's images signs ``plan``."""
    place.make_folders()
    (place.plans / f"{plan.hash}.json").write_bytes(plan.to_bytes())
    owner = place.approver_identity(place.approver_key)
    sign_approval(place.approvals, plan=plan.hash, site=place.settings().site, owner=owner)
