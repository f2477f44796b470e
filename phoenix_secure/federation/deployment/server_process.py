"""``phoenix-secure server start``: SuperLink on the loopback and the Fleet proxy before it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import httpx

from phoenix_secure.federation.deployment.commands import LOOPBACK, fleet_proxy, superlink
from phoenix_secure.federation.deployment.held_rosters import HeldRosters
from phoenix_secure.federation.deployment.hosts import require_free_port
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.engines.flower_address import check_flower_version, quiet_flower
from phoenix_secure.federation.engines.flower_api import control_client, register_node
from phoenix_secure.files import storage_errors
from phoenix_secure.processes import Supervisor
from phoenix_secure.secret_files import check_private

__all__ = ["ServerProcess"]

_CHECK_S = 0.5


class ServerProcess:
    """The server in ``folder``, checked and ready to run.

    Raises:     ConfigError for a setting, key or permission that is not as it must be.
    """

    def __init__(self, folder: ServerFolder, *, say: Callable[[str], object]) -> None:
        check_flower_version()
        self._folder = folder
        self._say = say
        self.settings = folder.settings()
        for path in folder.secrets:
            check_private(path)
        self._rosters = HeldRosters(folder.path)
        self._roster = self._rosters().current
        self.fingerprint = self._roster.fingerprint
        self._nodes = folder.nodes(self._roster)
        self._superlink = folder.superlink(self.settings)
        self._registered = False

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set. Call it from the main thread.

        Raises:     ConfigError when another program listens on one of its ports.
        """
        settings = self.settings
        require_free_port(
            LOOPBACK, settings.superlink_port, setting="superlink_port in server.yaml"
        )
        require_free_port(settings.listen, settings.port, setting="port in server.yaml")
        supervisor = self._supervisor()
        supervisor.start()
        try:
            while not stop.wait(_CHECK_S):
                if "superlink" in supervisor.check():
                    self._registered = False  # it keeps everything in memory
                self._follow_roster()
                if not self._registered:
                    self._register()
        finally:
            supervisor.stop()

    def _follow_roster(self) -> None:
        """Let in the nodes of a roster that `server join` put here meanwhile.

        Nodes that are in it no more stay registered, since Flower takes no key a second time; the
        Fleet proxy passes nothing of theirs on, and no run asks them.
        """
        roster = self._rosters().current
        if roster == self._roster:
            return
        self._nodes, self._roster = self._folder.nodes(roster), roster
        self._registered = False
        self._say(f"roster epoch {roster.epoch}: {', '.join(map(str, roster.changes))}")

    def _register(self) -> None:
        """Let the roster's nodes in, as soon as the SuperLink answers."""
        try:
            with control_client(self._superlink) as client:
                for site, key in self._nodes.items():
                    register_node(client, key=key, name=site)
        except httpx.HTTPError:
            return  # not up yet; we come back in half a second
        self._registered = True
        self._say(f"SuperLink is up; {len(self._nodes)} nodes may come")

    def _supervisor(self) -> Supervisor:
        folder, settings = self._folder, self.settings
        with storage_errors(folder.path):
            for name in ("logs", "flower"):
                (folder.path / name).mkdir(mode=0o700, exist_ok=True)
        environment = quiet_flower() | {"FLWR_HOME": str(folder.path / "flower")}
        children = [
            superlink(
                folder.files,
                port=settings.superlink_port,
                environment=environment,
                log=folder.logs / "superlink.log",
            ),
            fleet_proxy(
                replace(folder.files, asks_clients=settings.client_certificates),
                host=settings.listen,
                port=settings.port,
                superlink_port=settings.superlink_port,
                environment=environment,
                log=folder.logs / "fleet-proxy.log",
            ),
        ]
        return Supervisor(children, say=self._say)
