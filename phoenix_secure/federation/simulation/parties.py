"""Server and sites of secure rounds in one process, each with its own folder below the run's.

Whoever owns the machine can read all of it: one process hides nothing from its owner. It runs the
same code as between machines, so that what is measured here holds there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from phoenix_secure.config import RunConfig
from phoenix_secure.device import num_cores
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.keys import RunKeys
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.server.attempt import Patience, StageReport
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.secure_round import SecureAggregator
from phoenix_secure.federation.site.privacy import site_noise_entropy
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.releases import Releases
from phoenix_secure.federation.site.residuals import open_residuals
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.rng import SeedTree

__all__ = ["Parties", "create_parties"]


def create_parties(folder: RunFolder, *, sites: Iterable[str]) -> None:
    """Make keys, roster, the server's journal and the sites' records of a new run."""
    names = list(sites)
    RunKeys.create(folder.path, sites=names)
    SecureJournal.create(folder.server_rounds)
    for name in names:
        SiteRecord.create(folder.site_rounds(name))


class Parties:
    """The parties of the run in ``folder``.

    Raises:     CheckpointError when a key or a record is missing or damaged.
    """

    def __init__(self, folder: RunFolder, *, terms: SecureTerms) -> None:
        self._folder = folder
        self._terms = terms
        names = [path.name for path in sorted((folder.path / "sites").glob("*"))]
        self._keys = RunKeys.load(folder.path, sites=names)

    def site(
        self,
        name: str,
        *,
        config: RunConfig,
        seeds: SeedTree,
        releases: Releases | None = None,
    ) -> SecureSite:
        """One site's side.

        Its rounding follows the run's seed, so that weights repeat bit for bit; its keys and
        masks come from the operating system, and cancel.
        """
        of_site = seeds.child("site", name)
        return SecureSite(
            self._keys.sites[name],
            roster=self._keys.roster,
            terms=self._terms,
            record=SiteRecord(self._folder.site_rounds(name)),
            max_rounds=config.federation.rounds,
            rounding_key=lambda number: (
                of_site.child("round", number, "rounding").entropy().to_bytes(32, "big")
            ),
            num_threads=config.federation.threads_per_site,
            releases=releases,
            noise_entropy=site_noise_entropy(config, seeds, site=name),
            residuals=open_residuals(config, self._folder.path / "sites" / name / "residuals"),
        )

    def aggregator(
        self, engine: Engine, *, config: RunConfig, observe: Callable[[StageReport], object]
    ) -> SecureAggregator:
        """The server's side.

        A thread cannot vanish without a word: every site is waited for, so that who is in a sum
        does not depend on how busy this machine is.
        """
        deadline_s = config.federation.deadline_s
        return SecureAggregator(
            engine,
            identity=self._keys.server,
            roster=self._keys.roster,
            terms=self._terms,
            journal=SecureJournal(self._folder.server_rounds),
            patience=Patience(
                training_deadline_s=deadline_s,
                training_grace_s=deadline_s,
                stage_deadline_s=deadline_s,
                grace_s=deadline_s,
            ),
            max_attempts=config.secure_aggregation.max_attempts,
            num_threads=num_cores(),
            observe=observe,
        )
