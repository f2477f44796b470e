"""A whole federation on this machine as real processes: to rehearse a deployment and its faults.

Each party is its own process group, started with the public commands, over TLS on the loopback.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.flower_address import quiet_flower
from phoenix_secure.federation.engines.flower_api import control_client, list_nodes
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.approval import sign_approval
from phoenix_secure.files import write_bytes

__all__ = ["Rehearsal", "free_ports"]


class Rehearsal:
    """A federation of ``num_sites`` below ``root``; every process is killed when it closes."""

    def __init__(self, root: Path, *, num_sites: int = 5) -> None:
        self.root = root
        self.sites = tuple(numbered_sites(num_sites))
        first = _port_block(num_sites + 2)
        self.make(
            Deployment(
                federation="rehearsal",
                sites=self.sites,
                port=first,
                superlink_port=first + 1,
                first_supernode_port=first + 2,
                rehearsal=True,
            )
        )
        self.server = ServerFolder(root / "server")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(self, deployment: Deployment) -> None:
        """Make every party's folder."""
        initialise(self.root, deployment)

    def __enter__(self) -> Self:
        try:
            self.start("server")
            for site in self.sites:
                self.start(site)
            self.wait_online(self.sites)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def site(self, name: str) -> SiteFolder:
        """The folder of one site."""
        return SiteFolder(self.root / "sites" / name)

    def start(self, name: str) -> None:
        """Start the server or a site; its output goes to ``root/NAME.log``."""
        what = ["server", "start", str(self.server.path)]
        if name != "server":
            what = ["site", "start", str(self.site(name).path)]
        self._processes[name] = self.command(*what, log=self.root / f"{name}.log")

    def command(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start ``phoenix-secure`` with these arguments in a process group of its own."""
        return self.program(["-m", "phoenix_secure", *arguments], log=log)

    def program(self, arguments: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
        """Start this Python with ``arguments`` in a process group of its own."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *arguments],
                env=quiet_flower() | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str, *, signum: int = signal.SIGKILL) -> None:
        """Send ``signum`` to every process of one party."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        process.wait(60)

    def pause(self, name: str) -> None:
        """Let a site answer nothing until ``unpause``: a laptop that was shut, a cable."""
        self._signal_all(name, signal.SIGSTOP)

    def unpause(self, name: str) -> None:
        """Let a paused site go on where it was."""
        self._signal_all(name, signal.SIGCONT)

    def _signal_all(self, name: str, signum: int) -> None:
        first = psutil.Process(self._processes[name].pid)
        for process in (first, *first.children(recursive=True)):
            process.send_signal(signum)

    def is_running(self, name: str) -> bool:
        """Whether a party was started and has not ended or been killed."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def kill_superlink(self) -> None:
        """SIGKILL the SuperLink alone, as when it runs out of memory."""
        for child in psutil.Process(self._processes["server"].pid).children(recursive=True):
            if any("engines.superlink" in part for part in child.cmdline()):
                child.kill()

    def approve(self, plan: Plan, *, sites: Iterable[str] | None = None) -> None:
        """Every site's owner gets the plan by other means and signs it."""
        for name in self.sites if sites is None else sites:
            place = self.site(name)
            place.make_folders()
            write_bytes(place.plans / f"{plan.hash}.json", plan.to_bytes())
            owner = place.approver_identity(place.approver_key)
            sign_approval(place.approvals, plan=plan.hash, site=name, owner=owner)

    def online(self) -> set[str]:
        """Sites whose nodes the SuperLink holds for connected."""
        keys = self.server.nodes(self.server.roster())
        try:
            with control_client(self.server.superlink(self.server.settings())) as client:
                nodes = list_nodes(client)
        except httpx.HTTPError:
            return set()
        return {site for site, key in keys.items() if nodes.get(key, (0, ""))[1] == "online"}

    def wait_online(self, sites: Iterable[str], *, timeout_s: float = 400.0) -> None:
        """Wait until all of ``sites`` are connected.

        Raises:     TrainingError naming those that are not.
        """
        end = time.monotonic() + timeout_s
        while missing := set(sites) - self.online():
            if time.monotonic() > end:
                raise TrainingError(f"not connected: {', '.join(sorted(missing))}; see {self.root}")
            time.sleep(0.5)

    def wait_started(self, name: str, *, timeout_s: float = 400.0) -> None:
        """Wait until a site that was started again has signed on anew."""
        state = self.site(name).logs / "supernode.node"
        before = state.stat().st_mtime if state.exists() else 0.0
        end = time.monotonic() + timeout_s
        while not state.exists() or state.stat().st_mtime <= before:
            if time.monotonic() > end:
                raise TrainingError(f"{name} did not come back: see {self.root / name}.log")
            time.sleep(0.2)

    def close(self) -> None:
        """Kill what is left."""
        for name in list(self._processes):
            self.kill(name)


# Below the ports that a system gives to outgoing connections: one of those would take the port of a
# party that is away for a while.
_PORTS = range(10_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody uses at this moment."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port = random.SystemRandom().choice(_PORTS)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
        return found


def _port_block(count: int) -> int:
    """The first of ``count`` free ports in a row."""
    while True:
        (first,) = free_ports(1)
        try:
            with contextlib.ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
