"""Probes the server from outside, and checks a machine's own part of a deployment.

Every probe is harmless: it asks for something that must be refused and looks at the refusal.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import shutil
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
from cryptography import x509

from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.deployment.exchange_folder import (
    check_server_side,
    check_site_side,
)
from phoenix_secure.federation.deployment.hosts import proxy_of
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.flower_address import check_flower_version
from phoenix_secure.federation.engines.folder import replies_of, requests_of
from phoenix_secure.secret_files import check_private

__all__ = ["Finding", "probe_server", "probe_site"]

_TIMEOUT_S = 10.0
_GIB = 1024**3
_REFUSED = frozenset({403, 404, 405})
_UNAUTHENTICATED = frozenset({401, 403, 412})
_MEDIA_TYPE = "application/protobuf"  # of Flower's calls
# Control and Runtime calls, and ways in which sloppy proxies let them through.
_FORBIDDEN = (
    "/v1/control/start-run",
    "/v1/control/register-node",
    "/v1/control/list-nodes",
    "/v1/runtime/acquire-task",
    "/v1/runtime/pull-task-input",
    "/v1/fleet/register-node",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet/..%2fcontrol/list-nodes",
    "//v1/control/list-nodes",
    "/health",
    "/docs",
    "/openapi.json",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Literal["ok", "note", "bad"]
    message: str


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
        _certificate(folder.files.certificate),
        *(_guard if settings.client_certificates else _door)(settings.address, ca_file),
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
        findings += _site_door(settings.server, folder)
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
    free = shutil.disk_usage(folder).free / _GIB
    level: Literal["ok", "bad"] = "ok" if free >= 1 else "bad"
    findings.append(Finding(name="disk", level=level, message=f"{free:.1f} GiB free (1 needed)"))
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


def _certificate(path: Path) -> Finding:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return Finding(name="certificate", level="bad", message=f"{path} cannot be read")
    days = (certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).days
    level: Literal["ok", "note", "bad"] = "ok" if days > 30 else "note" if days >= 0 else "bad"
    return Finding(name="certificate", level=level, message=f"valid for {days} more days")


def _site_door(address: str, folder: SiteFolder) -> list[Finding]:
    """The door as this site finds it, and as a stranger does."""
    own = folder.door_certificate
    if not own.exists():
        return _door(address, folder.ca_certificate)
    findings = [_certificate(own), *_guard(address, folder.ca_certificate)]
    if any(finding.level == "bad" for finding in findings):
        return findings
    return findings + _door(address, folder.ca_certificate, (own, folder.door_key))


def _guard(address: str, ca_file: Path) -> list[Finding]:
    """Whether the Fleet proxy speaks with somebody who has no client certificate."""
    tls = _client_tls(ca_file, None)
    if isinstance(tls, Finding):
        return [tls]
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        plain = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
    except OSError as error:
        return [_nobody(address, error)]
    answered = b""
    try:
        with plain, tls.wrap_socket(plain, server_hostname=host) as connection:
            # In TLS 1.3 the server looks for the certificate after the client's last word.
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answered = connection.recv(1)
    except ssl.SSLCertVerificationError as error:
        message = f"TLS with {address} fails ({error.reason}): compare ca.crt with the server's"
        return [Finding(name="door", level="bad", message=message)]
    except OSError:
        pass  # it hung up on us
    if answered:
        message = "no client certificate is asked for: set client_certificates: true in server.yaml"
        return [Finding(name="door", level="note", message=message)]
    message = "whoever has no client certificate is refused in the TLS handshake"
    return [Finding(name="door", level="ok", message=message)]


def _nobody(address: str, error: Exception) -> Finding:
    message = f"nobody answers at {address} ({type(error).__name__}): start the server"
    return Finding(name="door", level="bad", message=message)


def _client_tls(ca_file: Path, own: tuple[Path, Path] | None) -> ssl.SSLContext | Finding:
    try:
        tls = ssl.create_default_context(cafile=str(ca_file))
        if own is not None:
            tls.load_cert_chain(*own)
    except (OSError, ssl.SSLError):
        names = ", ".join(str(path) for path in (ca_file, *(own or ())))
        return Finding(name="door", level="bad", message=f"{names} cannot be read")
    return tls


def _door(address: str, ca_file: Path, own: tuple[Path, Path] | None = None) -> list[Finding]:
    """Checks what the Fleet proxy at ``address`` lets an outsider do, or the holder of ``own``."""
    verify = _client_tls(ca_file, own)
    if isinstance(verify, Finding):
        return [verify]
    try:
        with httpx.Client(
            base_url=f"https://{address}", verify=verify, timeout=_TIMEOUT_S, trust_env=False
        ) as client:
            open_paths, clock = [], None
            for path in _FORBIDDEN:
                # httpx would tidy the path up; the raw target goes out as it is written.
                request = client.build_request("POST", "/", content=b"")
                request.url = request.url.copy_with(raw_path=path.encode())
                answer = client.send(request)
                clock = answer.headers.get("date", clock)
                if answer.status_code not in _REFUSED:
                    open_paths.append(f"{path} ({answer.status_code})")
            # In Flower's own media type, else the refusal would be of the form, not the stranger.
            stranger = client.post(
                "/v1/fleet/pull-messages",
                content=b"",
                headers={"content-type": _MEDIA_TYPE},
            )
    except httpx.HTTPError as error:
        return [_nobody(address, error)]
    findings = []
    if open_paths:
        message = f"an outsider reaches {', '.join(open_paths)}: put the Fleet proxy in front"
        findings.append(Finding(name="door", level="bad", message=message))
    else:
        message = f"{len(_FORBIDDEN)} calls of the Control and Runtime APIs are refused"
        findings.append(Finding(name="door", level="ok", message=message))
    findings.append(_stranger(stranger.status_code))
    if clock is not None:
        findings.append(_clock(clock))
    return findings


def _stranger(status: int) -> Finding:
    """Evaluates the server's answer to a node that nobody registered."""
    message = f"a node without a registered key gets {status}"
    if status < 400:
        return Finding(name="stranger", level="bad", message=f"{message}: it was let in")
    if status in _UNAUTHENTICATED:
        return Finding(name="stranger", level="ok", message=message)
    return Finding(
        name="stranger", level="note", message=f"{message}, which says nothing about its key"
    )


def _clock(date: str) -> Finding:
    """Flower refuses signatures whose time is off; approvals expire by the site's clock."""
    there = email.utils.parsedate_to_datetime(date)
    off = abs((dt.datetime.now(dt.UTC) - there).total_seconds())
    level: Literal["ok", "bad"] = "ok" if off < 5 else "bad"
    return Finding(name="clock", level=level, message=f"{off:.0f} s apart (5 allowed; use NTP)")


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
