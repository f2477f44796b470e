"""``phoenix-secure deploy init``: keys, certificates, roster and settings of a new federation.

::

    FOLDER/owner/           owner.key, which signs the roster: take it away
    FOLDER/server/          goes to the server
    FOLDER/sites/NAME/      goes to that site, and to nobody else
    FOLDER/federation.md    what to do next, with the fingerprint to compare
    FOLDER/start.sh         a rehearsal of the whole federation on this machine
    FOLDER/approve.sh       signs a plan for every site of a rehearsal

Whoever runs this sees all keys until the folders are handed over and deleted here. Sites that
cannot accept that must not use keys made by somebody else; ``docs/deployment.md`` says more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.certificates import (
    CertifiedKey,
    KeyPair,
    make_node_key,
    make_tls_files,
)
from phoenix_secure.federation.deployment.hosts import canonical_host, listening_address
from phoenix_secure.federation.deployment.texts import (
    approve_script,
    compose_file,
    next_steps,
    server_unit,
    site_unit,
    start_script,
)
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.secret_files import make_private_folder, write_secret
from phoenix_secure.yaml_text import dump_yaml
from protocol import SERVER, Identity, Roster
from protocol.encoding import is_id
from protocol.parameters import MIN_CLIENTS, MIN_HONEST
from protocol.suite import Suite

__all__ = ["Deployment", "initialise"]

_TASK_SECRET_SIZE = 32
_FIRST_SUPERNODE_PORT = 9100


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """The deployment that ``initialise`` sets up.

    host             name or address under which sites reach the server; kept as
                     ``hosts.canonical_host`` has it
    port             port of the Fleet proxy
    superlink_port   loopback port of the SuperLink on the server
    rehearsal        sites take shares of a public data set, on this machine
    days             how long the TLS certificate holds
    folder           in which messages travel, in place of the network; None: the network
    suite            of the keys in the roster, and of the federation's secure rounds
    """

    federation: str
    sites: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 9443
    superlink_port: int = 9093
    first_supernode_port: int = _FIRST_SUPERNODE_PORT
    rehearsal: bool = False
    days: int = 365
    suite: str = Suite.CLASSICAL.value
    folder: str | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "host", canonical_host(self.host))
        except ValueError as error:
            raise ConfigError(f"--host {error}") from error
        for name in (self.federation, *self.sites):
            if not is_id(name) or len(name) > 46:
                raise ConfigError(
                    f"name {name!r}: use 1 to 46 letters, digits, '.', '_' or '-', "
                    "starting with a letter or digit"
                )
        if len(set(self.sites)) != len(self.sites) or SERVER in self.sites:
            raise ConfigError(f"sites need different names, none of them {SERVER!r}")
        if not self.sites:
            raise ConfigError("a federation needs at least one site: give --sites or --site")
        last_port = self.first_supernode_port + len(self.sites) - 1
        ports = (self.port, self.superlink_port, self.first_supernode_port, last_port)
        if not all(1 <= port <= 65_535 for port in ports) or self.port == self.superlink_port:
            raise ConfigError("ports must be different and between 1 and 65535")
        if self.suite not in {suite.value for suite in Suite}:
            raise ConfigError(f"--suite must be classical or hybrid_pq, got {self.suite!r}")
        if not 1 <= self.days <= 3660:
            raise ConfigError(f"--days must be between 1 and 3660, got {self.days}")

    @property
    def is_small(self) -> bool:
        """Whether secure rounds are possible only without the assumption of a colluder."""
        return MIN_HONEST <= len(self.sites) < MIN_CLIENTS

    @property
    def warning(self) -> str | None:
        """A warning to the federation's owner before anything is handed over."""
        if len(self.sites) >= MIN_CLIENTS:
            return None
        if self.is_small:
            return (
                f"fewer than {MIN_CLIENTS} sites: a sum hides an update only if no site works with "
                "the server or with another site. Secure rounds are refused unless the plan says "
                "secure_aggregation.collusion=0 and every site's policy allow_no_colluders: true "
                "(docs/deployment.md)"
            )
        return (
            f"fewer than {MIN_CLIENTS} sites: secure rounds are refused, since a sum would hide an "
            "update among too few (docs/deployment.md)"
        )


def initialise(folder: Path, deployment: Deployment) -> Roster:
    """Make everything below ``folder``, which must not exist yet or be empty.

    Guarantee:  key files have mode 0600 from the first moment on; each site's folder holds that
                site's secrets and no other; when anything fails, nothing is left behind.
    Raises:     ConfigError for a folder in use; StorageError when it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: choose another folder")
    existed = folder.exists()
    try:
        return _make(folder, deployment)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if existed:
            folder.mkdir(exist_ok=True)
        raise


def _make(folder: Path, deployment: Deployment) -> Roster:
    suite = Suite(deployment.suite)
    owner = Identity.generate("owner", suite=suite)
    server = Identity.generate(SERVER, suite=suite)
    sites = {site: Identity.generate(site, suite=suite) for site in deployment.sites}
    nodes = {site: make_node_key() for site in deployment.sites}
    tls = make_tls_files(
        federation=deployment.federation,
        hosts=[deployment.host],
        days=deployment.days,
        clients=deployment.sites,
    )
    roster = Roster.create(
        federation_id=deployment.federation,
        owner_key=owner.public_key,
        server_key=server.public_key,
        keys={site: identity.public_key for site, identity in sites.items()},
    )
    signed = roster.sign(owner)
    make_private_folder(folder)
    make_private_folder(folder / "owner")
    write_secret(folder / "owner" / "owner.key", owner.export_seed())

    place = folder / "server"
    make_private_folder(place)
    write_bytes(place / "server.crt", tls.server_certificate)
    write_secret(place / "server.key", tls.server_key)
    write_secret(place / "task.secret", os.urandom(_TASK_SECRET_SIZE))
    write_secret(place / "identity.key", server.export_seed())
    public = {
        "ca.crt": tls.ca_certificate,
        "roster.bin": signed,
        "federation-owner.pub": owner.public_key,
    }
    _write_public(place, public)
    with storage_errors(place):
        (place / "nodes").mkdir()
    for site, key in nodes.items():
        write_bytes(place / "nodes" / f"{site}.pub", key.public)
    _write_yaml(place / "server.yaml", _server_settings(deployment))
    write_bytes(place / "phoenix-secure-server.service", server_unit().encode())

    for number, site in enumerate(sorted(deployment.sites)):
        _make_site(
            folder / "sites" / site,
            deployment,
            identity=sites[site],
            node=nodes[site],
            door=tls.clients[site],
            public=public,
            port=deployment.first_supernode_port + number,
        )
    over_network = deployment.folder is None
    write_bytes(folder / "federation.md", next_steps(deployment, roster.fingerprint).encode())
    write_bytes(
        folder / "start.sh", start_script(deployment.sites, over_network=over_network).encode()
    )
    (folder / "start.sh").chmod(0o700)
    if deployment.rehearsal:
        write_bytes(folder / "approve.sh", approve_script(deployment.sites).encode())
        (folder / "approve.sh").chmod(0o700)
    if over_network:
        write_bytes(folder / "compose.yaml", compose_file(deployment.sites).encode())
    return roster


def _make_site(
    place: Path,
    deployment: Deployment,
    *,
    identity: Identity,
    node: KeyPair,
    door: CertifiedKey,
    public: Mapping[str, bytes],
    port: int,
) -> None:
    approver = Identity.generate("approver")
    make_private_folder(place)
    write_bytes(place / "door.crt", door.certificate)
    write_secret(place / "door.key", door.key)
    write_secret(place / "node.key", node.private)
    write_secret(place / "task.secret", os.urandom(_TASK_SECRET_SIZE))
    write_secret(place / "identity.key", identity.export_seed())
    write_secret(place / "approver.key", approver.export_seed())
    write_bytes(place / "approver.pub", approver.public_key)
    _write_public(place, public)
    _write_yaml(place / "site.yaml", _site_settings(deployment, identity.id, port))
    write_bytes(place / "phoenix-secure-site.service", site_unit().encode())


def _server_settings(deployment: Deployment) -> dict[str, Any]:
    host = f"[{deployment.host}]" if ":" in deployment.host else deployment.host
    return {
        "federation": deployment.federation,
        "address": f"{host}:{deployment.port}",
        "listen": listening_address(deployment.host),
        "port": deployment.port,
        "superlink_port": deployment.superlink_port,
        "client_certificates": True,
        **({} if deployment.folder is None else {"folder": deployment.folder}),
    }


def _site_settings(deployment: Deployment, site: str, port: int) -> dict[str, Any]:
    own = {"source": "own", "name": "image-folder", "path": "/path/to/images"}
    return {
        "site": site,
        "federation": deployment.federation,
        **(
            {"server": _server_settings(deployment)["address"]}
            if deployment.folder is None
            else {"folder": deployment.folder}
        ),
        "supernode_port": port if deployment.rehearsal else 9094,
        "device": "cpu" if deployment.rehearsal else "auto",
        "data": {"source": "share-of-plan"} if deployment.rehearsal else own,
        "policy": {
            "require_secure_aggregation": True,
            "require_computed_model": True,
            "min_sites": min(5, len(deployment.sites)),
            # For its owner to think about; only where there are too few sites for anything else.
            **({"allow_no_colluders": False} if deployment.is_small else {}),
            "max_rounds": 1000,
        },
    }


def _write_public(place: Path, public: Mapping[str, bytes]) -> None:
    """The same files at the server and at every site."""
    for name, content in public.items():
        write_bytes(place / name, content)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    write_bytes(path, dump_yaml(content).encode())


def numbered_sites(count: int) -> Sequence[str]:
    """``site-01`` ... for ``--sites COUNT``."""
    width = max(2, len(str(count)))
    return [f"site-{number:0{width}d}" for number in range(1, count + 1)]
