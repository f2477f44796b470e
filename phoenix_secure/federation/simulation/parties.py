"""The parties of a simulation, each with a folder of its own below the run's.

Whoever owns the machine can read all of it: one process hides nothing from its owner. It runs the
same code as a deployment, so that what is measured here holds there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from phoenix_secure.evidence.witness import Witness
from phoenix_secure.federation.engines.exchange import Engine, Failure, OnReply, Reply
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.stages import WITNESS_STAGE
from phoenix_secure.federation.run.evidence import heads_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.keys import RunKeys
from phoenix_secure.federation.secagg.sum_step import KnownState
from phoenix_secure.federation.site.build import SitePlace
from phoenix_secure.federation.site.model_state import MemoryStates
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.witness import with_witness
from phoenix_secure.files import sha256_of
from phoenix_secure.privacy.events import Event
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.rng import SeedTree
from protocol.suite import Suite

__all__ = ["ImagesTrained", "create_parties", "local_witnesses", "place_of", "spent_events"]


class ImagesTrained:
    """The number of images trained on so far; sites' threads add to it, anybody may read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0

    def __call__(self, site: str, num_images: int) -> None:
        with self._lock:
            self._total += num_images

    @property
    def total(self) -> int:
        return self._total


def create_parties(
    folder: RunFolder, *, sites: Iterable[str], secure: bool, suite: Suite = Suite.CLASSICAL
) -> RunKeys:
    """Make keys and roster of a new run and, for secure rounds, the sites' records."""
    names = list(sites)
    keys = RunKeys.create(folder.path, sites=names, suite=suite)
    if secure:
        for name in names:
            SiteRecord.create(folder.site_rounds(name))
    return keys


def place_of(
    folder: RunFolder,
    site: str,
    *,
    keys: RunKeys,
    seeds: SeedTree,
    first: KnownState | None = None,
) -> SitePlace:
    """The private places of a simulated site, which knows the state ``first``.

    ``seeds`` is the root of its randomness.
    """
    own = folder.path / "sites" / site
    return SitePlace(
        identity=keys.sites[site],
        seeds=seeds,
        roster=keys.roster,
        round_roster=keys.roster,
        folder=own,
        memory=own / "memory",
        residuals=own / "residuals",
        heads=heads_file(folder.path, site),
        promises=lambda: SiteRecord(folder.site_rounds(site)),
        plan=sha256_of(folder.config_file),
        states=lambda: MemoryStates(first),
    )


def spent_events(folder: RunFolder, *, sites: Iterable[str]) -> dict[str, tuple[Event, ...]]:
    """The events in each site's privacy ledger, where it has one yet."""
    ledgers = {site: folder.path / "sites" / site / "privacy.jsonl" for site in sites}
    return {site: PrivacyLedger(path).events() for site, path in ledgers.items() if path.exists()}


def local_witnesses(folder: Path, keys: RunKeys, *, plan: str) -> Engine:
    """An engine for the one stage that is left when the sites' threads have ended.

    plan    SHA-256 of the run's file of settings
    """
    return _Direct(
        {
            name: Witness(
                heads_file(folder, name),
                identity=identity,
                server_key=keys.roster.server_key,
                federation=keys.roster.federation_id,
                plan=plan,
            )
            for name, identity in keys.sites.items()
        }
    )


class _Direct:
    """Asks the sites' witnesses by calling them."""

    def __init__(self, sites: Mapping[str, Witness]) -> None:
        self._handlers: dict[str, Callable[[str, bytes], bytes]] = {
            name: with_witness(_refuse, witness) for name, witness in sites.items()
        }
        self.sites = tuple(sorted(sites))

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: int | None = None,
        grace_s: float = 0.0,
        on_reply: OnReply | None = None,
        max_reply_bytes: int | None = None,
    ) -> dict[str, Reply | Failure]:
        answers: dict[str, Reply | Failure] = {}
        for site, body in requests.items():
            try:
                reply = Reply(body=self._handlers[site](WITNESS_STAGE, body))
                if on_reply is None:
                    answers[site] = reply
                else:
                    answers[site] = on_reply(site, reply) or Reply(body=b"")
            except SiteFailure as failure:
                answers[site] = Failure(code=failure.code)
        return answers

    def close(self) -> None:
        """Do nothing: nothing runs."""


def _refuse(stage: str, body: bytes) -> bytes:
    raise AssertionError(stage)
