"""Why a party does not get to the server's door, in words that say what to change."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import ipaddress
import socket
import ssl
from pathlib import Path

from phoenix_secure.federation.engines.flower_address import LOOPBACKS

__all__ = ["explain_failure"]

_TIMEOUT_S = 10.0
# X509_V_ERR_... of OpenSSL.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME, _OTHER_ADDRESS = 62, 64
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})


def explain_failure(address: str, error: BaseException, *, ca_file: Path | None = None) -> str:
    """One line on why ``HOST:PORT`` could not be spoken with, and what to do.

    error     as a socket or an HTTP client raised it; its cause counts where that says more
    ca_file   to ask the server for the names in its certificate where they are others
    """
    error = _first_cause(error)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    match error:
        case ssl.SSLCertVerificationError():
            return _certificate(address, host, int(port), error, ca_file=ca_file)
        case socket.gaierror():
            return (
                f"no address is known for the name {host} ({error.strerror}): check `server` in "
                "site.yaml, and this machine's DNS or /etc/hosts"
            )
        case ConnectionRefusedError():
            return f"nothing listens at {_tried(address, host, int(port))}: start the server" + (
                _version_hint(host, int(port))
            )
        case ssl.SSLError() | ConnectionError():
            reason = getattr(error, "reason", None) or type(error).__name__
            return (
                f"the connection with {address} ended in the TLS handshake ({reason}): another "
                "program has that port, or something on the way interferes; look at "
                "logs/fleet-proxy.log of the server"
            )
        case TimeoutError():
            return (
                f"no answer from {_tried(address, host, int(port))} within {_TIMEOUT_S:.0f} s: a "
                f"firewall drops what goes to port {port}, or the machine is off the network"
            )
        case OSError() if error.errno in _NO_WAY:
            return (
                f"no way leads to {_tried(address, host, int(port))} ({error.strerror}): check "
                "cable, routes, VPN, and firewalls that reject"
            )
    return f"nobody answers at {address} ({type(error).__name__}): start the server"


def _first_cause(error: BaseException) -> BaseException:
    """The socket's own error below an HTTP client's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            return found
        found = found.__cause__ or found.__context__
    return TimeoutError() if "Timeout" in type(error).__name__ else error


def _certificate(
    address: str,
    host: str,
    port: int,
    error: ssl.SSLCertVerificationError,
    *,
    ca_file: Path | None,
) -> str:
    now = dt.datetime.now(dt.UTC)
    match error.verify_code:
        case code if code in (_OTHER_NAME, _OTHER_ADDRESS):
            names = ", ".join(_names(host, port, ca_file)) or "other names"
            return (
                f"the server's certificate is for {names}, and not for {host}: write that name "
                "into `server` of site.yaml (DNS or /etc/hosts must know it), or found the "
                f"federation with --host {host}"
            )
        case code if code == _NOT_YET_VALID:
            return (
                f"the server's certificate is not valid yet by this machine's clock, which says "
                f"{now:%Y-%m-%d %H:%M} UTC: set it by NTP"
            )
        case code if code == _EXPIRED:
            return (
                f"the server's certificate has expired by this machine's clock, which says "
                f"{now:%Y-%m-%d %H:%M} UTC: set it by NTP if it is wrong; else the owner signs new "
                "ones (`deploy sign`), the server joins with its welcome and is started again"
            )
    return f"TLS with {address} fails ({error.reason}): compare ca.crt with the server's"


def _names(host: str, port: int, ca_file: Path | None) -> list[str]:
    """The names in the certificate of a server of the authority in ``ca_file``."""
    if ca_file is None:
        return []
    tls = ssl.create_default_context(cafile=str(ca_file))
    # Only to read the names: nothing is sent, and the authority is checked as ever.
    tls.check_hostname = False
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        tls.wrap_socket(plain, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert() or {}
        found = [str(pair[1]) for pair in certificate.get("subjectAltName", ())]
        # Every server's own loopback is in its certificate, and helps no other machine.
        return [_shown(name) for name in found if name not in LOOPBACKS]
    return []


def _shown(name: str) -> str:
    """An IPv6 address as people write it, not in OpenSSL's eight groups."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name.strip()))
    return name


def _addresses(host: str, port: int) -> list[str]:
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(each[4][0]) for each in found))
    return []


def _tried(address: str, host: str, port: int) -> str:
    """The address, and what its name stands for here."""
    found = [each for each in _addresses(host, port) if each != host]
    return f"{address} ({', '.join(found)})" if found else address


def _version_hint(host: str, port: int) -> str:
    """A server listens on IPv4 alone unless its settings say otherwise."""
    found = _addresses(host, port)
    if host not in found and found and all(":" in each for each in found):
        return ", and set `listen: '::'` in server.yaml, since the name is known with IPv6 alone"
    return ""
