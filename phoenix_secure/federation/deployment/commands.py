"""The commands of the hardened topology, with the switches that make it so."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.processes import Child

__all__ = ["LOOPBACK", "ServerFiles", "fleet_proxy", "superlink", "supernode"]

# The SuperLink's and SuperNode's own ports never face the network.
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFiles:
    """Paths of the server's TLS files and of the secret that lets a process take tasks.

    asks_clients   whether the door is for holders of a client certificate alone
    nodes          folder with a file ``SITE.pub`` for each site of the roster
    """

    ca_certificate: Path
    certificate: Path
    key: Path
    task_secret: Path
    asks_clients: bool = False
    nodes: Path | None = None


def superlink(files: ServerFiles, *, port: int, environment: dict[str, str], log: Path) -> Child:
    """Flower's SuperLink: on loopback, in memory, only known nodes, tasks only with the secret.

    In-memory on purpose: a database would keep every message on the disk and, after a restart,
    does not bring a run back anyway; our own checkpoints do.
    """
    return Child(
        name="superlink",
        command=[
            *(sys.executable, "-m", "phoenix_secure.federation.engines.superlink"),
            *("--host", LOOPBACK, "--port", str(port)),
            *("--ssl-ca-certfile", str(files.ca_certificate)),
            *("--ssl-certfile", str(files.certificate)),
            *("--ssl-keyfile", str(files.key)),
            "--enable-supernode-auth",
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(files.task_secret)),
            "--disable-runtime-dependency-installation",
        ],
        environment=environment,
        log=log,
    )


def fleet_proxy(
    files: ServerFiles,
    *,
    host: str,
    port: int,
    superlink_port: int,
    environment: dict[str, str],
    log: Path,
) -> Child:
    """The door for the sites: see :mod:`phoenix_secure.federation.deployment.fleet_proxy`."""
    return Child(
        name="fleet-proxy",
        command=[
            *(sys.executable, "-m", "phoenix_secure.federation.deployment.fleet_proxy"),
            *("--upstream", f"https://{LOOPBACK}:{superlink_port}"),
            *("--host", host, "--port", str(port)),
            *("--root-certificates", str(files.ca_certificate)),
            *("--certificate", str(files.certificate)),
            *("--key", str(files.key)),
            *(["--client-certificates"] if files.asks_clients else []),
            *([] if files.nodes is None else ["--nodes", str(files.nodes)]),
        ],
        environment=environment,
        log=log,
    )


def supernode(
    *,
    site: str,
    server: str,
    root_certificates: Path,
    node_key: Path,
    task_secret: Path,
    port: int,
    wake: Path,
    environment: dict[str, str],
    log: Path,
) -> Child:
    """Flower's SuperNode in process isolation: it starts nothing and imports no bundle.

    It touches ``wake`` when there is a task.
    """
    return Child(
        name="supernode",
        command=[
            *(sys.executable, "-m", "phoenix_secure.federation.engines.supernode"),
            *("--superlink", server),
            *("--root-certificates", str(root_certificates)),
            *("--auth-supernode-private-key", str(node_key)),
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(task_secret)),
            *("--host", LOOPBACK, "--port", str(port)),
            *("--node-config", f'site="{site}"'),
        ],
        environment=environment
        | {
            "PHOENIX_SUPERNODE_STATE": str(log.with_suffix(".node")),
            "PHOENIX_SUPERNODE_WAKE": str(wake),
        },
        log=log,
    )
