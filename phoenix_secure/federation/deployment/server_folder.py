"""The folder of a deployed server: all that it keeps; no site's secret is in it.

::

    server.yaml       settings                         nodes/SITE.pub    which SuperNodes may come
    ca.crt            the federation's authority       logs/, flower/    programs' output and state
    server.crt/.key   TLS of the Fleet proxy and the SuperLink
    task.secret       lets a process take the server's part in a run
    identity.key      signs the server's messages in secure rounds
    roster.bin, federation-owner.pub                   who takes part

A server that has not joined yet has its keys and ``server.request`` here (``joining``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from phoenix_secure.config.section import Section
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.commands import LOOPBACK, ServerFiles
from phoenix_secure.federation.deployment.hosts import canonical_host
from phoenix_secure.federation.deployment.site_folder import read_rosters
from phoenix_secure.federation.deployment.site_settings import HostPort, Id, Port, read_section
from phoenix_secure.federation.engines.flower_address import FlowerAddress, node_key_bytes
from phoenix_secure.secret_files import read_secret
from protocol import SERVER, Identity, Roster, RosterChain
from protocol.identity import SEED_SIZE

__all__ = ["ServerFolder", "ServerSettings", "find_server_folder"]


def _interface(text: str) -> str:
    """An address or name of this machine; 0.0.0.0 and :: are all of its addresses."""
    return text if text in ("0.0.0.0", "::") else canonical_host(text)  # noqa: S104 - as asked


class ServerSettings(Section):
    """All settings of the server; ``server.yaml``."""

    federation: Id = Field(description="[name] The federation's name.")
    address: HostPort = Field(description="[host:port] What sites connect to.")
    listen: Annotated[str, AfterValidator(_interface)] = Field(
        "127.0.0.1", description="[host] Interface on which the Fleet proxy listens."
    )
    port: Port = Field(description="[port] Port of the Fleet proxy.")
    superlink_port: Port = Field(9093, description="[port] Loopback port of the SuperLink.")
    client_certificates: bool = Field(
        False,
        description="[yes/no] Whether the Fleet proxy speaks with nobody but holders of a client "
        "certificate (door.crt of each site).",
    )
    folder: str | None = Field(
        None,
        exclude_if=lambda folder: folder is None,
        description="[path] In place of the network: the folder that messages travel in.",
    )
    gather_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        60.0, description="[seconds] How long a run waits at its start for all sites."
    )


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """Paths and files of the server in ``path``."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "server.yaml"

    @property
    def files(self) -> ServerFiles:
        return ServerFiles(
            ca_certificate=self.path / "ca.crt",
            certificate=self.path / "server.crt",
            key=self.path / "server.key",
            task_secret=self.path / "task.secret",
            nodes=self.path / "nodes",
        )

    @property
    def identity_key(self) -> Path:
        return self.path / "identity.key"

    @property
    def secrets(self) -> tuple[Path, ...]:
        """Files that nobody but the server's user may read."""
        return self.files.key, self.files.task_secret, self.identity_key

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def settings(self) -> ServerSettings:
        """The server's settings.

        Raises:     ConfigError naming the setting.
        """
        return read_section(self.settings_file, ServerSettings)

    def roster(self) -> Roster:
        """The roster in force, if the federation's owner signed it."""
        return self.rosters().current

    def rosters(self) -> RosterChain:
        """All rosters, if the federation's owner signed them."""
        return read_rosters(self.path)

    def identity(self, roster: Roster) -> Identity:
        """The server's signing key.

        Raises:     ConfigError when it is not the one in the roster.
        """
        seed = read_secret(self.identity_key, size=SEED_SIZE)
        identity = Identity(SERVER, seed=seed, suite=roster.suite)
        if roster.server_key != identity.public_key:
            raise ConfigError(f"{self.identity_key} is not the server's key in the roster")
        return identity

    def nodes(self, roster: Roster) -> dict[str, bytes]:
        """Site -> public key of its SuperNode, for every member of the roster."""
        keys = {}
        for site, _ in roster.members:
            path = self.path / "nodes" / f"{site}.pub"
            try:
                keys[site] = node_key_bytes(path.read_bytes())
            except OSError as error:
                raise ConfigError(f"{path} is missing: restore it from a copy") from error
        return keys

    def superlink(self, settings: ServerSettings) -> FlowerAddress:
        """The address of this machine's SuperLink, and the secret that proves we may use it."""
        try:
            certificates = self.files.ca_certificate.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self.files.ca_certificate} is missing: restore it") from error
        return FlowerAddress(
            address=f"{LOOPBACK}:{settings.superlink_port}",
            root_certificates=certificates,
            secret=read_secret(self.files.task_secret),
        )


def find_server_folder(name: str) -> ServerFolder:
    """The server folder of a federation: a path, or a name below the current folder.

    Raises:     ConfigError saying where it was looked for.
    """
    for path in (Path(name), Path(name) / "server", Path("federations") / name / "server"):
        folder = ServerFolder(path)
        if folder.settings_file.is_file():
            return folder
    raise ConfigError(
        f"no federation {name!r} here (looked for server.yaml in {name}, {name}/server and "
        f"federations/{name}/server): a party that made its own keys joins first (`phoenix-secure "
        "server join`, `site join`); `phoenix-secure deploy init` makes a whole one for trials"
    )
