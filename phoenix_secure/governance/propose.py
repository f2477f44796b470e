"""The coordinator's side: one plan, put before every site of the roster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.server.run import require_startable
from phoenix_secure.federation.site.policy import Release
from phoenix_secure.files import write_bytes
from phoenix_secure.governance.code_digest import installed_code
from phoenix_secure.governance.names import is_name
from phoenix_secure.governance.proposal import Proposal
from phoenix_secure.governance.syftbox import default_address, job_exists, submit_job
from protocol import SERVER, Identity

__all__ = ["Proposer", "job_name"]


def job_name(plan: Plan) -> str:
    """The name of a plan's job where nobody chose one."""
    return f"plan-{plan.hash[:16]}"


class Proposer:
    """Signed proposals of one plan to all sites of the federation in ``server``.

    Guarantee:  the plan is the one that a run over these sites offers, whatever it resolves first
                (the model that it starts from), and a run that is proposed can begin.
    Raises:     ConfigError for settings that such a run refuses, or a server folder whose key is
                not the roster's.
    """

    def __init__(
        self, config: RunConfig, *, server: ServerFolder, release: Release, purpose: str
    ) -> None:
        roster = server.roster()
        self._identity: Identity = server.identity(roster)
        self.federation = roster.federation_id
        self.sites = tuple(site for site, _ in roster.members)
        planned = DeployedSites(config, server=server)
        require_startable(planned)
        self.plan = planned.plan
        self._proposals = {
            site: Proposal(
                site=site,
                plan=self.plan,
                code=installed_code(),
                release=release,
                purpose=purpose,
            )
            for site in self.sites
        }

    def submit(
        self,
        root: Path,
        *,
        name: str,
        coordinator: str | None = None,
        owners: Mapping[str, str] | None = None,
    ) -> dict[str, Path]:
        """Submit a PySyft job to every site's folder below ``root``; returns site -> job folder.

        ``owners`` gives sites' addresses in PySyft where they differ from ``default_address``.

        Raises:     ConfigError, also when any site has a job of that name already; StorageError.
        """
        if not is_name(name):
            raise ConfigError(
                f"a proposal's name is letters, digits, '.', '_', '-', and not v1, v2, ...: "
                f"got {name!r}"
            )
        unknown = set(owners or {}) - set(self.sites)
        if unknown:
            raise ConfigError(f"{', '.join(sorted(unknown))}: no such site in the roster")
        sender = coordinator or default_address(SERVER, federation=self.federation)
        addresses = {
            site: (owners or {}).get(site) or default_address(site, federation=self.federation)
            for site in self.sites
        }
        for owner in addresses.values():
            # Before anything is written: a plan is put before all sites or before none.
            if job_exists(root, coordinator=sender, owner=owner, name=name):
                raise ConfigError(
                    f"{owner} already has the proposal {name}: nothing was changed; "
                    "choose another --name to propose it again"
                )
        return {
            site: submit_job(root, self._files(site), coordinator=sender, owner=owner, name=name)
            for site, owner in addresses.items()
        }

    def write(self, folder: Path) -> dict[str, Path]:
        """Only write the files, ``FOLDER/SITE/``, for a PySyft client that submits them itself.

        Raises:     ConfigError for a folder in use; StorageError.
        """
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty: choose another folder")
        for site in self.sites:
            for file, content in self._files(site).items():
                write_bytes(folder / site / file, content)
        return {site: folder / site for site in self.sites}

    def _files(self, site: str) -> dict[str, bytes]:
        return self._proposals[site].files(server=self._identity)
