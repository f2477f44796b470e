"""Scripted sites behind a real SuperLink with TLS and SuperNodes with registered keys."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from phoenix_secure.federation.deployment.commands import ServerFiles, superlink, supernode
from phoenix_secure.federation.deployment.party_keys import new_node_key, node_line, node_pem
from phoenix_secure.federation.engines.flower import FlowerEngine
from phoenix_secure.federation.engines.flower_address import (
    FlowerAddress,
    node_key_bytes,
    quiet_flower,
)
from phoenix_secure.federation.engines.flower_api import control_client, register_node
from phoenix_secure.secret_files import write_secret
from rehearsal import free_ports
from tls_files import make_tls_files

HERE = Path(__file__).parent


class FlowerHarness:
    """Sites are pairs of processes in a group of their own; a killed one got SIGKILL."""

    patience_s = 6.0

    def __init__(self, root: Path, *, sites, session: str, max_reply_bytes: int) -> None:
        self.root = root
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = quiet_flower() | {
            "FLWR_HOME": str(root / "flwr"),
            "OMP_NUM_THREADS": "1",
        }
        self.port, *self.site_ports = free_ports(1 + len(sites))
        self.ports = dict(zip(sites, self.site_ports, strict=True))
        tls = make_tls_files(federation="test", hosts=["127.0.0.1"], days=2)
        (root / "ca.crt").write_bytes(tls.ca_certificate)
        (root / "server.crt").write_bytes(tls.server_certificate)
        write_secret(root / "server.key", tls.server_key)
        write_secret(root / "task.secret", os.urandom(32))
        self.keys = {}
        for site in sites:
            key = new_node_key()
            write_secret(root / f"{site}.key", node_pem(key))
            self.keys[site] = node_key_bytes(node_line(key.public_key()))
        self.address = FlowerAddress(
            address=f"127.0.0.1:{self.port}",
            root_certificates=tls.ca_certificate,
            secret=(root / "task.secret").read_bytes(),
        )
        try:
            self.start_superlink()
            for site in sites:
                self.restart(site)
            self.engine = FlowerEngine(
                self.address,
                nodes=self.keys,
                session=session,
                max_reply_bytes=max_reply_bytes,
                gather_s=90,
            )
            assert self.engine.sites == tuple(sites)
        except BaseException:
            self.close()
            raise

    def start_superlink(self) -> None:
        files = ServerFiles(
            ca_certificate=self.root / "ca.crt",
            certificate=self.root / "server.crt",
            key=self.root / "server.key",
            task_secret=self.root / "task.secret",
        )
        child = superlink(
            files, port=self.port, environment=self.environment, log=self.root / "superlink.log"
        )
        self.spawn("superlink", child.command, child)
        end = time.monotonic() + 60
        while True:
            try:
                with control_client(self.address) as client:
                    for site, key in self.keys.items():
                        register_node(client, key=key, name=site)
                return
            except Exception:
                if time.monotonic() > end:
                    raise
                time.sleep(0.3)

    def spawn(self, name: str, command, child) -> None:
        with child.log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command,
                env=child.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self, site: str) -> None:
        """Start a site (again)."""
        child = supernode(
            site=site,
            server=self.address.address,
            root_certificates=self.root / "ca.crt",
            node_key=self.root / f"{site}.key",
            task_secret=self.root / "task.secret",
            port=self.ports[site],
            wake=self.root / f"{site}.wake",
            environment=self.environment,
            log=self.root / f"{site}.log",
        )
        worker = [
            sys.executable,
            str(HERE / "flower_site.py"),
            f"127.0.0.1:{self.ports[site]}",
            str(self.root / "task.secret"),
            str(self.root / f"{site}.wake"),
            *child.command,
        ]
        self.spawn(site, worker, child)

    def meddle(self) -> None:
        """From now on the transport delivers everything twice and in reverse order."""
        grid = self.engine._task.grid
        pull = grid.pull_messages

        def twice(message_ids):
            found = list(pull(message_ids))
            return [*reversed(found), *found]

        grid.pull_messages = twice

    def close(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
        for name in list(self.processes):
            self.kill(name)
