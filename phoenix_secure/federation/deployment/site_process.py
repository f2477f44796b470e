"""``phoenix-secure site start``: one warm process for a site, with its SuperNode beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from phoenix_secure.federation.deployment.commands import LOOPBACK, supernode
from phoenix_secure.federation.deployment.disk_probe import probe_disk
from phoenix_secure.federation.deployment.door_watch import watch_door
from phoenix_secure.federation.deployment.exchange_folder import check_site_side
from phoenix_secure.federation.deployment.held_rosters import HeldRosters, take_rosters
from phoenix_secure.federation.deployment.hosts import proxy_of, require_free_port
from phoenix_secure.federation.deployment.key_renewal import finish_switch
from phoenix_secure.federation.deployment.renewing import note_rosters
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_installation import installer
from phoenix_secure.federation.deployment.site_settings import SiteSettings
from phoenix_secure.federation.engines.flower_address import FlowerAddress, quiet_flower
from phoenix_secure.federation.engines.flower_site import serve_flower
from phoenix_secure.federation.engines.folder_site import serve_folder
from phoenix_secure.federation.engines.supernode import CERTIFICATE_VARIABLE, KEY_VARIABLE
from phoenix_secure.federation.site.approval import Approver
from phoenix_secure.federation.site.gate import Gate
from phoenix_secure.federation.site.kept_files import KeptFiles
from phoenix_secure.federation.site.pooled_audit import Examiner
from phoenix_secure.files import storage_errors
from phoenix_secure.processes import Supervisor
from phoenix_secure.secret_files import check_private, read_secret

__all__ = ["SiteProcess"]

_CHECK_S = 0.5


class SiteProcess:
    """The site in ``folder``, checked and ready to run.

    ``via`` is the folder that messages travel in, above what the settings say. ``approver`` takes
    the place of the signed files in ``approvals``; it must be given where the
    settings ask for another one. ``make_examiner`` is asked for
    what counts in pooled audits, once a plan has one (``site_installation``).

    Raises:     ConfigError for a setting, key, roster or permission that is not as it must be;
                CheckpointError where promises, ledger or keys of before are missing or older.
    """

    def __init__(
        self,
        folder: SiteFolder,
        *,
        say: Callable[[str], object],
        approver: Approver | None = None,
        via: Path | None = None,
        make_examiner: Callable[[], Examiner] | None = None,
    ) -> None:
        self._folder = folder
        self._say = say
        finish_switch(folder.path)
        self.settings: SiteSettings = folder.settings()
        if via is not None:
            self.settings = self.settings.model_copy(update={"server": None, "folder": str(via)})
        for path in folder.secrets:
            check_private(path)
        if approver is None and self.settings.approver != "file":
            # Fail closed: never the signed files where the owner asked for more.
            raise ValueError(f"expected an approver for approver: {self.settings.approver}")
        approver = folder.approver(self.settings) if approver is None else approver
        self._roster = folder.roster()
        folder.make_folders()
        self._cancelled = threading.Event()
        self._audit = folder.audit()
        kept = KeptFiles(folder.path, audit=self._audit)
        kept.check()
        rosters = HeldRosters(folder.path)
        self._gate = Gate(
            self.settings.site,
            plans=folder.plans,
            rosters=rosters,
            take_rosters=self._take_rosters,
            approver=approver,
            policy=self.settings.policy,
            audit=self._audit,
            install=installer(
                folder,
                self.settings,
                approver=approver,
                cancelled=self._cancelled,
                rosters=rosters,
                make_examiner=make_examiner,
            ),
            kept=kept.news,
        )

    @property
    def fingerprint(self) -> str:
        """The pinned roster's fingerprint, to be compared with the other parties."""
        return self._roster.fingerprint

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set. Call it from the main thread.

        Raises:     ConfigError when another program listens on its port, or the folder that
                    messages travel in cannot be used.

        Children end when the thread that started them does, so they are started here.
        """
        if self.settings.server is not None:
            port = self.settings.supernode_port
            require_free_port(LOOPBACK, port, setting="supernode_port in site.yaml")
            if (proxy := proxy_of(self.settings.server)) is not None:
                self._say(proxy)  # the look below would go past it
            else:
                self._watch_door(self.settings.server, stop)
        if self.settings.folder is not None:
            self._check_folder(Path(self.settings.folder))
        if (disk := probe_disk(self._folder.path)).level == "bad":
            self._say(disk.message)
        self._audit.record("started", site=self.settings.site, roster=self._roster.hash.hex())
        server = threading.Thread(target=self._serve, args=(stop,), name="site", daemon=True)
        supervisor = self._supervisor()
        supervisor.start()
        server.start()
        try:
            while not stop.wait(_CHECK_S):
                supervisor.check()
                # One that ended because it was stopped since the look above is no failure.
                if not server.is_alive() and not stop.is_set():
                    raise RuntimeError("the site's worker ended: see the log above")
        finally:
            stop.set()
            self._cancelled.set()
            server.join(30)
            supervisor.stop()
            self._audit.record("stopped", site=self.settings.site)

    def _watch_door(self, address: str, stop: threading.Event) -> None:
        """Say why the server cannot be reached, where it cannot."""
        look = partial(watch_door, address, self._folder, say=self._say, stop=stop)
        threading.Thread(target=look, name="door", daemon=True).start()

    def _take_rosters(self, rosters: bytes) -> None:
        note_rosters(self._folder, take_rosters(self._folder.path, rosters))

    def _check_folder(self, root: Path) -> None:
        rosters = self._folder.rosters()
        is_begun = check_site_side(root, site=self.settings.site, rosters=rosters)
        self._say(
            f"watching {root / self.settings.site}"
            + ("" if is_begun else ": nothing of the server has arrived yet")
        )

    def _serve(self, stop: threading.Event) -> None:
        settings = self.settings
        if settings.folder is not None:
            serve_folder(Path(settings.folder), site=settings.site, handle=self._gate, stop=stop)
            return
        where = FlowerAddress(
            address=f"{LOOPBACK}:{settings.supernode_port}",
            secret=read_secret(self._folder.task_secret),
        )
        serve_flower(where, handle=self._gate, stop=stop, wake=self._wake)

    @property
    def _wake(self) -> Path:
        """What the SuperNode touches when there is a task for this process."""
        return self._folder.logs / "supernode.wake"

    def _supervisor(self) -> Supervisor:
        settings, folder = self.settings, self._folder
        if settings.server is None:
            return Supervisor([], say=self._say)
        with storage_errors(folder.path):
            home = folder.path / "flower"
            home.mkdir(mode=0o700, exist_ok=True)
        child = supernode(
            site=settings.site,
            server=settings.server,
            root_certificates=folder.ca_certificate,
            node_key=folder.node_key,
            task_secret=folder.task_secret,
            port=settings.supernode_port,
            wake=self._wake,
            environment=quiet_flower() | {"FLWR_HOME": str(home)} | _door(folder),
            log=folder.logs / "supernode.log",
        )
        return Supervisor([child], say=self._say)


def _door(folder: SiteFolder) -> dict[str, str]:
    """Where the SuperNode finds the certificate that opens the server's door, if there is one."""
    if not folder.door_certificate.exists():
        return {}
    return {
        CERTIFICATE_VARIABLE: str(folder.door_certificate),
        KEY_VARIABLE: str(folder.door_key),
    }
