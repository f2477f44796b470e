"""What ``doctor --federation`` looks at: a party's own files, and the way to the others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.deployment.disk_probe import probe_disk
from phoenix_secure.federation.deployment.door_probe import (
    probe_certificate,
    probe_door,
    probe_guard,
    probe_site_door,
)
from phoenix_secure.federation.deployment.exchange_folder import (
    check_server_side,
    check_site_side,
)
from phoenix_secure.federation.deployment.finding import Finding
from phoenix_secure.federation.deployment.hosts import proxy_of
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.flower_address import check_flower_version
from phoenix_secure.federation.engines.folder import replies_of, requests_of
from phoenix_secure.secret_files import check_private

__all__ = ["Finding", "probe_server", "probe_site"]


def probe_server(folder: ServerFolder, *, via: Path | None = None) -> list[Finding]:
    """Runs every check that the server's folder allows, from the machine it runs on.

    via   the folder that messages travel in, above what server.yaml says
    """
    settings = folder.settings()
    root = Path(settings.folder) if via is None and settings.folder is not None else via
    if root is not None:
        return [*_own_files(folder.secrets, folder.path), *_server_exchange(root, folder)]
    ca_file = folder.files.ca_certificate
    return [
        *_own_files(folder.secrets, folder.path),
        probe_certificate(folder.files.certificate),
        *(probe_guard if settings.client_certificates else probe_door)(settings.address, ca_file),
        *_closed_port(settings.address, settings.superlink_port),
    ]


def probe_site(folder: SiteFolder, *, via: Path | None = None) -> list[Finding]:
    """The same from a site: its own files, the way to the server, and what the server shows."""
    settings = folder.settings()
    findings = [*_own_files(folder.secrets, folder.path), _roster(folder)]
    root = Path(settings.folder) if via is None and settings.folder is not None else via
    if root is not None:
        findings.append(_site_exchange(root, folder))
    elif settings.server is not None:
        findings += probe_site_door(settings.server, folder)
        if (proxy := proxy_of(settings.server)) is not None:
            findings.append(Finding(name="proxy", level="note", message=proxy))
    if folder.approver_key.exists():
        message = f"{folder.approver_key} is still here: take it to whoever owns the images"
        findings.append(Finding(name="approver", level="note", message=message))
    return findings


def _server_exchange(root: Path, folder: ServerFolder) -> list[Finding]:
    """The folder that messages travel in, and what lies there of each site."""
    rosters = folder.rosters()
    roster = rosters.current
    fine = f"{root} can be written, and no other federation's messages are there"
    findings = [_outcome("folder", fine, lambda: check_server_side(root, rosters=rosters))]
    if findings[0].level == "ok":
        findings += [_messages(root, site) for site, _ in roster.members]
    return findings


def _site_exchange(root: Path, folder: SiteFolder) -> Finding:
    site = folder.settings().site
    try:
        is_begun = check_site_side(root, site=site, rosters=folder.rosters())
    except PhoenixError as error:
        return Finding(name="folder", level="bad", message=str(error))
    if not is_begun:
        message = f"{root} can be written; nothing of the server has arrived yet"
        return Finding(name="folder", level="note", message=message)
    return _messages(root, site)


def _messages(root: Path, site: str) -> Finding:
    """How many messages lie in the folder of one site."""
    try:
        requests = len(requests_of(root, site).names())
        replies = len(replies_of(root, site).names())
    except OSError as error:
        message = f"{root / site} cannot be read ({error.strerror or error}): it was never there?"
        return Finding(name=site, level="note", message=message)
    message = f"{requests} requests wait for the site, {replies} answers for the server"
    return Finding(name=site, level="ok", message=message)


def _own_files(secrets: Sequence[Path], folder: Path) -> list[Finding]:
    findings = [
        _outcome("key file", path.name, lambda path=path: check_private(path))  # type: ignore[misc]
        for path in secrets
    ]
    findings.append(_outcome("flower", "version is one we tried", check_flower_version))
    findings.append(probe_disk(folder))
    return findings


def _outcome(name: str, fine: str, check: Callable[[], object]) -> Finding:
    try:
        check()
    except PhoenixError as error:
        return Finding(name=name, level="bad", message=str(error))
    return Finding(name=name, level="ok", message=fine)


def _roster(folder: SiteFolder) -> Finding:
    try:
        roster = folder.roster()
        folder.identity(folder.settings(), roster)
    except PhoenixError as error:
        return Finding(name="roster", level="bad", message=str(error))
    return Finding(
        name="roster", level="ok", message=f"epoch {roster.epoch}, fingerprint {roster.fingerprint}"
    )


def _closed_port(address: str, superlink_port: int) -> list[Finding]:
    """Whether the SuperLink itself can be reached where sites reach the proxy."""
    host = address.rpartition(":")[0].strip("[]")
    if host in ("127.0.0.1", "localhost", "::1"):
        message = "the server is on this machine's loopback: nothing to probe from outside"
        return [Finding(name="superlink", level="note", message=message)]
    try:
        socket.create_connection((host, superlink_port), timeout=3).close()
    except OSError:
        message = f"port {superlink_port} cannot be reached from here"
        return [Finding(name="superlink", level="ok", message=message)]
    message = f"port {superlink_port} of {host} is open: close it in the firewall"
    return [Finding(name="superlink", level="bad", message=message)]
