"""Assembles the folder of a site or of the server around the keys that are in it.

There is one way to do so, whether the keys were made at the party (``site init`` and ``site join``)
or for it (``deploy init``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phoenix_secure.federation.deployment.deployment import Deployment
from phoenix_secure.federation.deployment.hosts import listening_address
from phoenix_secure.federation.deployment.texts import server_unit, site_unit
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.yaml_text import dump_yaml
from protocol.parameters import MAX_COMPLETE

__all__ = ["Papers", "complete_server", "complete_site", "renew_server", "renew_site"]

_SUPERNODE_PORT = 9094


@dataclass(frozen=True, kw_only=True, slots=True)
class Papers:
    """What a party needs of others; nothing in it is secret.

    certificate   of the party's TLS key, and that of the authority, PEM
    roster        all of them, signed by the holder of ``owner_key``
    nodes         site -> public key of its SuperNode in OpenSSH form; for the server
    """

    ca_certificate: bytes
    certificate: bytes
    roster: bytes
    owner_key: bytes
    nodes: Mapping[str, bytes] = field(default_factory=dict)


def complete_site(
    place: Path,
    papers: Papers,
    *,
    site: str,
    deployment: Deployment,
    number: int = 0,
) -> None:
    """Write all but the keys of ``site`` into ``place``; the settings last, which complete it.

    number   of the site among those that share a machine in a rehearsal; it moves the port
    """
    renew_site(place, papers)
    write_bytes(place / "phoenix-secure-site.service", site_unit().encode())
    _write_yaml(place / "site.yaml", _site_settings(deployment, site, number))


def complete_server(place: Path, papers: Papers, *, deployment: Deployment) -> None:
    """Write all but the keys of the server into ``place``; the settings last."""
    renew_server(place, papers)
    write_bytes(place / "phoenix-secure-server.service", server_unit().encode())
    _write_yaml(place / "server.yaml", _server_settings(deployment))


def renew_site(place: Path, papers: Papers) -> None:
    """Write what the owner gives a site, then the roster, from which on it counts."""
    write_bytes(place / "door.crt", papers.certificate)
    _write_shared(place, papers)


def renew_server(place: Path, papers: Papers) -> None:
    """Write what the owner gives the server; the nodes of other sites go once the roster is in."""
    write_bytes(place / "server.crt", papers.certificate)
    with storage_errors(place):
        (place / "nodes").mkdir(exist_ok=True)
    for site, key in papers.nodes.items():
        write_bytes(place / "nodes" / f"{site}.pub", key)
    _write_shared(place, papers)
    with storage_errors(place):
        for path in (place / "nodes").glob("*.pub"):
            if path.stem not in papers.nodes:
                path.unlink()


def _write_shared(place: Path, papers: Papers) -> None:
    """The same files at the server and at every site."""
    write_bytes(place / "ca.crt", papers.ca_certificate)
    write_bytes(place / "federation-owner.pub", papers.owner_key)
    write_bytes(place / "roster.bin", papers.roster)


def _server_settings(deployment: Deployment) -> dict[str, Any]:
    return {
        "federation": deployment.federation,
        "address": deployment.address,
        "listen": listening_address(deployment.host),
        "port": deployment.port,
        "superlink_port": deployment.superlink_port,
        "client_certificates": True,
        **({} if deployment.folder is None else {"folder": deployment.folder}),
    }


def _site_settings(deployment: Deployment, site: str, number: int) -> dict[str, Any]:
    own = {"source": "own", "name": "image-folder", "path": "/path/to/images"}
    return {
        "site": site,
        "federation": deployment.federation,
        **(
            {"server": deployment.address}
            if deployment.folder is None
            else {"folder": deployment.folder}
        ),
        "supernode_port": (
            deployment.first_supernode_port + number if deployment.rehearsal else _SUPERNODE_PORT
        ),
        "device": "cpu" if deployment.rehearsal else "auto",
        "data": {"source": "share-of-plan"} if deployment.rehearsal else own,
        "policy": {
            "require_secure_aggregation": True,
            "require_computed_model": True,
            "min_sites": min(5, len(deployment.sites)),
            # For its owner to think about; only where there are too few sites for anything else,
            # or too many.
            **({"allow_no_colluders": False} if deployment.is_small else {}),
            **({"allow_regular_graph": False} if len(deployment.sites) > MAX_COMPLETE else {}),
            "max_rounds": 1000,
        },
    }


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    write_bytes(path, dump_yaml(content).encode())
