"""The sites of a run in one process: threads' handlers, each with a folder of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from phoenix_secure.config import RunConfig
from phoenix_secure.data.partition import Holdings
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.federation.simulation.parties import Parties
from phoenix_secure.federation.site.privacy import make_trainer, open_site_privacy
from phoenix_secure.federation.site.worker import SiteWorker
from phoenix_secure.privacy.events import Event
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.rng import SeedTree

__all__ = ["embedded_workers", "spent_events"]


def embedded_workers(
    config: RunConfig,
    *,
    holdings: Holdings,
    strategies: RunStrategies,
    privacy: PrivacyPlan | None,
    parties: Parties | None,
    devices: Sequence[torch.device],
    seeds: SeedTree,
    folder: RunFolder,
    cancelled: threading.Event,
    progress: Callable[[str, int], object],
) -> dict[str, SiteWorker]:
    """A worker for each site; sites share trainers, one a device."""
    trainers = [
        make_trainer(config, privacy, num_classes=holdings.image_set.num_classes, device=device)
        for device in devices
    ]
    workers = {}
    for number, name in enumerate(holdings.parts):
        of_site = _site_folder(folder, name)
        own = holdings.site_images(name)
        images, of_strategies = strategies.site(name, own, folder=of_site / "memory")
        private = open_site_privacy(
            config, privacy, site=name, own=own, folder=of_site, run="this run"
        )
        secure = None
        if parties is not None:
            releases = None if private is None else private.releases
            secure = parties.site(name, config=config, seeds=seeds, releases=releases)
        workers[name] = SiteWorker(
            name,
            images=images,
            strategies=of_strategies,
            trainer=trainers[number % len(trainers)],
            seeds=seeds,
            cancelled=cancelled,
            secure=secure,
            privacy=private,
            progress=progress,
        )
    return workers


def spent_events(folder: RunFolder, *, sites: Iterable[str]) -> dict[str, tuple[Event, ...]]:
    """What each site's ledger holds, where it has one yet."""
    ledgers = {site: _site_folder(folder, site) / "privacy.jsonl" for site in sites}
    return {site: PrivacyLedger(path).events() for site, path in ledgers.items() if path.exists()}


def _site_folder(folder: RunFolder, site: str) -> Path:
    return folder.path / "sites" / site
