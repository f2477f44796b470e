"""Host names and addresses, checked before any key or certificate names them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import urllib.parse
import urllib.request

import idna

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.engines.flower_address import LOOPBACKS
from phoenix_secure.yaml_text import shorten

__all__ = [
    "canonical_host",
    "canonical_host_port",
    "host_port",
    "listening_address",
    "proxy_of",
    "require_free_port",
]

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def canonical_host(text: str) -> str:
    """A DNS name in lower case (punycode where it has other letters) or an IP address, as
    certificates and TLS compare them.

    >>> canonical_host("München.Example"), canonical_host("2001:DB8:0::10")
    ('xn--mnchen-3ya.example', '2001:db8::10')

    Source:     RFC 1123, section 2.1; RFC 5891 (names); RFC 5952 (addresses).
    Raises:     ValueError for what no certificate or no site could use, with the reason.
    """
    shown = shorten(text)
    if not text or text != text.strip() or re.search(r"\s", text):
        raise ValueError(f"{shown} is no host name: it is empty or holds blanks")
    if "/" in text or "@" in text:
        raise ValueError(f"{shown} is an address of the web: give its host name alone")
    if "[" in text or "]" in text:
        raise ValueError(f"{shown}: give an IPv6 address without brackets, and the port apart")
    if "%" in text:
        raise ValueError(f"{shown} has a zone, which holds on one machine: give a global address")
    if "*" in text:
        raise ValueError(f"{shown} is a pattern: give the one name under which sites come")
    address = None
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(text)
    if address is not None:
        if address.is_unspecified or address.is_multicast or address == _BROADCAST:
            raise ValueError(f"{shown} is no address that sites could reach: give the server's own")
        return str(address)
    if ":" in text:
        raise ValueError(f"{shown} is neither a name nor an IPv6 address: give the port apart")
    return _name(text, shown)


def canonical_host_port(text: str) -> str:
    """``HOST:PORT`` with a canonical host, in brackets where that is an IPv6 address.

    Raises:     ValueError with the reason.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise ValueError(f"expected HOST:PORT with a port from 1 to 65535, got {shorten(text)}")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if "/" in host:
        raise ValueError(f"{shorten(text)} is an address of the web: give HOST:PORT alone")
    if ":" in host and not is_bracketed:
        raise ValueError(f"{shorten(text)}: put the IPv6 address into brackets, [ADDRESS]:PORT")
    found = canonical_host(host[1:-1] if is_bracketed else host)
    if is_bracketed and ":" not in found:
        raise ValueError(f"{shorten(text)}: brackets are for IPv6 addresses")
    return host_port(found, int(port))


def host_port(host: str, port: int) -> str:
    """``HOST:PORT`` of a canonical host, in brackets where that is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening_address(host: str) -> str:
    """The interface on which a server that sites reach as ``host`` listens."""
    if host in ("127.0.0.1", "localhost"):
        return "127.0.0.1"
    if host == "::1":
        return host
    return "::" if ":" in host else "0.0.0.0"  # noqa: S104 - the proxy is the open door


def require_free_port(host: str, port: int, *, setting: str) -> None:
    """Refuse a port that cannot be listened on, before programs end over it again and again.

    Raises:     ConfigError naming port, reason and ``setting``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = str(error) if number is None else os.strerror(number)
        raise ConfigError(
            f"cannot listen on port {port} of {host} ({reason}): stop the other program that does, "
            f"or change {setting}"
        ) from error


def proxy_of(address: str) -> str | None:
    """A line for people where the environment's proxy lies on the way to ``HOST:PORT``; None where
    it does not."""
    proxies = urllib.request.getproxies_environment()
    host = address.rpartition(":")[0].strip("[]")
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or host in LOOPBACKS or urllib.request.proxy_bypass(host):
        return None
    # It may hold a password.
    shown = urllib.parse.urlsplit(proxy).netloc.rpartition("@")[2] or "of the environment"
    return (
        f"{address} is reached through the proxy {shown} (https_proxy or all_proxy); if that one "
        f"does not let it through, set no_proxy={host}"
    )


def _name(text: str, shown: str) -> str:
    if "_" in text:
        raise ValueError(f"{shown} has an underscore, which no certificate's name may have")
    try:
        name = idna.encode(text.rstrip("."), uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{shown} is no host name ({error}): give a DNS name") from error
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(name) > 253:
        raise ValueError(f"{shown} is no host name: use letters, digits, hyphens and dots")
    if labels[-1].isdigit():
        raise ValueError(f"{shown} is no IPv4 address: its four numbers go from 0 to 255")
    return name
