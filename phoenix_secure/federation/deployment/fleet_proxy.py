"""The only door of the server: a TLS proxy that lets Flower's Fleet API through and nothing else.

A SuperLink serves three APIs on one port. Two of them, Control (start runs, let nodes in) and
Runtime (take over a run), need no account. So the SuperLink stays on the loopback and this proxy
faces the network. A request is passed on when its method and path are *exactly* one of the calls
that a SuperNode makes; a path with anything to decode in it is refused rather than interpreted.

Bodies pass through in pieces. Where the server asks for client certificates, whoever has none does
not get past the TLS handshake, and no call passes of a site that is not in the roster now.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import ssl
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path

import httpx

from phoenix_secure.federation.deployment.proxy_connections import accept_connections
from phoenix_secure.federation.deployment.proxy_http import Upstream, serve_requests
from phoenix_secure.federation.deployment.proxy_limits import ProxyLimits
from phoenix_secure.processes import die_with_parent

__all__ = ["FleetProxy", "door_tls", "serve_fleet_proxy"]

_BACKLOG = 128


class FleetProxy:
    """Passes Fleet calls to ``upstream`` (``https://127.0.0.1:PORT``)."""

    def __init__(
        self,
        upstream: str,
        *,
        root_certificates: Path,
        limits: ProxyLimits | None = None,
        nodes: Path | None = None,
    ) -> None:
        """``nodes`` is the folder with a file ``SITE.pub`` for each site that may call."""
        self._upstream = upstream
        self._verify = ssl.create_default_context(cafile=str(root_certificates))
        self._limits = limits or ProxyLimits()
        self._nodes = nodes

    async def serve(self, listener: socket.socket, *, tls: ssl.SSLContext) -> None:
        """Serve whoever connects to ``listener``, until cancelled."""
        limits = self._limits
        async with httpx.AsyncClient(
            base_url=self._upstream,
            verify=self._verify,
            timeout=limits.answer_s,
            trust_env=False,
            headers={"accept-encoding": "identity"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        ) as client:
            # What the SuperLink says to one site is not to come back with the request of another.
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            upstream = Upstream(client=client, limits=limits, nodes=self._nodes)
            await accept_connections(
                listener,
                lambda connection: serve_requests(connection, upstream),
                tls=tls,
                limits=limits,
            )


def door_tls(*, certificate: Path, key: Path, clients: Path | None) -> ssl.SSLContext:
    """TLS 1.3 of the door; with ``clients``, for holders of a certificate of that authority."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(certificate, key)
    if clients is not None:
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(clients)
    return tls


def serve_fleet_proxy(
    upstream: str,
    *,
    host: str,
    port: int,
    root_certificates: Path,
    tls: ssl.SSLContext,
    nodes: Path | None = None,
) -> None:
    """Serve until stopped."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # On all interfaces: also for sites that come over IPv4.
    both = host == "::" and socket.has_dualstack_ipv6()
    with socket.create_server(
        (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both
    ) as listener:
        proxy = FleetProxy(upstream, root_certificates=root_certificates, nodes=nodes)
        asyncio.run(proxy.serve(listener, tls=tls))


def main() -> None:
    """The command of ``deploy.commands.fleet_proxy``."""
    die_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(description="Pass Flower's Fleet API on and nothing else")
    for name in ("--upstream", "--host"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("--root-certificates", "--certificate", "--key"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--client-certificates", action="store_true")
    parser.add_argument("--nodes", type=Path)
    given = parser.parse_args()
    clients = given.root_certificates if given.client_certificates else None
    serve_fleet_proxy(
        given.upstream,
        host=given.host,
        port=given.port,
        root_certificates=given.root_certificates,
        tls=door_tls(certificate=given.certificate, key=given.key, clients=clients),
        nodes=given.nodes,
    )


if __name__ == "__main__":
    main()
