"""Probes the server's door from outside: who gets in, what an outsider reaches, whose clock is off.

Every probe is harmless: it asks for something that must be refused and looks at the refusal.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import socket
import ssl
from pathlib import Path
from typing import Literal

import httpx
from cryptography import x509

from phoenix_secure.federation.deployment.door_faults import explain_failure
from phoenix_secure.federation.deployment.finding import Finding
from phoenix_secure.federation.deployment.site_folder import SiteFolder

__all__ = ["probe_certificate", "probe_door", "probe_guard", "probe_site_door", "probe_way"]

_TIMEOUT_S = 10.0
_CLOCK_S = 5.0
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


def probe_site_door(address: str, folder: SiteFolder) -> list[Finding]:
    """The door as this site finds it, and as a stranger does."""
    own = folder.door_certificate
    if not own.exists():
        return probe_door(address, folder.ca_certificate)
    findings = [probe_certificate(own), *probe_guard(address, folder.ca_certificate)]
    if any(finding.level == "bad" for finding in findings):
        return findings
    return findings + probe_door(address, folder.ca_certificate, (own, folder.door_key))


def probe_way(address: str, folder: SiteFolder) -> list[Finding]:
    """Whether this site gets to the door at all, and whose clock is off: two connections, no more.

    A subset of ``probe_site_door``, for a site that looks each time it starts.
    """
    own = folder.door_certificate
    pair = (own, folder.door_key) if own.exists() else None
    findings = [] if pair is None else probe_guard(address, folder.ca_certificate)
    if any(finding.level == "bad" for finding in findings):
        return findings
    verify = _client_tls(folder.ca_certificate, pair)
    if isinstance(verify, Finding):
        return [verify]
    try:
        answer = httpx.get(
            f"https://{address}/health", verify=verify, timeout=_TIMEOUT_S, trust_env=False
        )
    except httpx.HTTPError as error:
        return [_fault(address, error, ca_file=folder.ca_certificate)]
    return [*findings, _clock(answer.headers.get("date"))]


def probe_guard(address: str, ca_file: Path) -> list[Finding]:
    """Whether the Fleet proxy speaks with somebody who has no client certificate."""
    tls = _client_tls(ca_file, None)
    if isinstance(tls, Finding):
        return [tls]
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        plain = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
    except OSError as error:
        return [_fault(address, error)]
    answered = b""
    with plain:
        try:
            connection = tls.wrap_socket(plain, server_hostname=host)
        except OSError as error:
            return [_fault(address, error, ca_file=ca_file)]
        # In TLS 1.3 the server looks for the certificate after the client's last word.
        with connection:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                answered = connection.recv(1)
            except TimeoutError as error:
                return [_fault(address, error)]
            except OSError:
                pass  # it hung up on us
    if answered:
        message = "no client certificate is asked for: set client_certificates: true in server.yaml"
        return [Finding(name="door", level="note", message=message)]
    message = "whoever has no client certificate is refused in the TLS handshake"
    return [Finding(name="door", level="ok", message=message)]


def _fault(address: str, error: Exception, *, ca_file: Path | None = None) -> Finding:
    message = explain_failure(address, error, ca_file=ca_file)
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


def probe_door(address: str, ca_file: Path, own: tuple[Path, Path] | None = None) -> list[Finding]:
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
        return [_fault(address, error, ca_file=ca_file)]
    findings = []
    if open_paths:
        message = f"an outsider reaches {', '.join(open_paths)}: put the Fleet proxy in front"
        findings.append(Finding(name="door", level="bad", message=message))
    else:
        message = f"{len(_FORBIDDEN)} calls of the Control and Runtime APIs are refused"
        findings.append(Finding(name="door", level="ok", message=message))
    findings.append(_stranger(stranger.status_code))
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


def _clock(date: str | None) -> Finding:
    """Flower refuses signatures whose time is off; approvals expire by the site's clock."""
    if date is None:
        message = "the server does not tell its time: compare the clocks, 5 s apart are allowed"
        return Finding(name="clock", level="note", message=message)
    there = email.utils.parsedate_to_datetime(date)
    off = (dt.datetime.now(dt.UTC) - there).total_seconds()
    if abs(off) < _CLOCK_S:
        return Finding(name="clock", level="ok", message=f"{abs(off):.0f} s apart (5 allowed)")
    side = "ahead of" if off > 0 else "behind"
    message = (
        f"this machine's clock is {abs(off):.0f} s {side} the server's (5 allowed): set both by NTP"
    )
    return Finding(name="clock", level="bad", message=message)


def probe_certificate(path: Path) -> Finding:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return Finding(name="certificate", level="bad", message=f"{path} cannot be read")
    days = (certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).days
    level: Literal["ok", "note", "bad"] = "ok" if days > 30 else "note" if days >= 0 else "bad"
    return Finding(name="certificate", level=level, message=f"valid for {days} more days")
