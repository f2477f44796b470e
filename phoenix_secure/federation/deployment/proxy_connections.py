"""Takes connections in, agrees on TLS with them, and ends those that hold a place for nothing.

A stranger can connect and say nothing, or speak slowly. Each step therefore has a time of its own,
and where places are short the one that has waited longest loses its own: an honest handshake takes
milliseconds, so a flood of silent strangers throws out itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from phoenix_secure.federation.deployment.proxy_limits import ProxyLimits

__all__ = ["Connection", "accept_connections"]

_log = logging.getLogger(__name__)
_BUFFER_BYTES = 64 << 10


@dataclass(eq=False, kw_only=True, slots=True)
class Connection:
    """One TLS connection.

    site         the name in the client's certificate; None where certificates are not asked for
    is_busy      whether a request of it is being served
    idle_since   time of the loop at which the last one ended
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    site: str | None
    idle_since: float
    is_busy: bool = False


@dataclass(kw_only=True, slots=True)
class _Places:
    """Who is connected; handshakes in the order in which they began."""

    handshakes: dict[asyncio.Task[None], None] = field(default_factory=dict)
    connections: dict[Connection, asyncio.Task[None]] = field(default_factory=dict)


async def accept_connections(
    listener: socket.socket,
    serve: Callable[[Connection], Awaitable[None]],
    *,
    tls: ssl.SSLContext,
    limits: ProxyLimits,
) -> None:
    """Hand every connection that completes TLS to ``serve``, until cancelled.

    Guarantee:  never more than ``limits.max_handshakes`` and ``limits.max_connections`` at a time.
    """
    loop, places = asyncio.get_running_loop(), _Places()
    listener.setblocking(False)
    try:
        while True:
            try:
                plain, _ = await loop.sock_accept(listener)
            except OSError as error:  # out of file handles, say: those at work will end
                _log.warning("a connection was not accepted (%s)", type(error).__name__)
                await asyncio.sleep(0.1)
                continue
            if len(places.handshakes) >= limits.max_handshakes:
                oldest = next(iter(places.handshakes))
                del places.handshakes[oldest]
                oldest.cancel()
            task = loop.create_task(_serve(plain, serve, places, tls=tls, limits=limits))
            places.handshakes[task] = None
            await asyncio.sleep(0)  # it takes charge of the socket before it can be cancelled
    finally:
        for task in [*places.handshakes, *places.connections.values()]:
            task.cancel()


async def _serve(
    plain: socket.socket,
    serve: Callable[[Connection], Awaitable[None]],
    places: _Places,
    *,
    tls: ssl.SSLContext,
    limits: ProxyLimits,
) -> None:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a connection is served by a task")
    try:
        connection = await _handshake(plain, tls=tls, seconds=limits.handshake_s)
    except OSError:  # no TLS, no certificate, or too slow
        return
    finally:
        places.handshakes.pop(task, None)
    try:
        if _find_place(connection, places, limits):
            places.connections[connection] = task
            await serve(connection)
    except (OSError, TimeoutError):
        return  # it went away, or took too long
    finally:
        places.connections.pop(connection, None)
        connection.writer.transport.abort()


async def _handshake(plain: socket.socket, *, tls: ssl.SSLContext, seconds: float) -> Connection:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_BUFFER_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, plain, ssl=tls, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=1.0
    )
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    site = _name_in(transport.get_extra_info("peercert"))
    return Connection(reader=reader, writer=writer, site=site, idle_since=loop.time())


def _name_in(certificate: Mapping[str, Any] | None) -> str | None:
    """The common name that the federation's authority signed: the site's."""
    parts = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    return next((str(value) for kind, value in parts if kind == "commonName"), None)


def _find_place(connection: Connection, places: _Places, limits: ProxyLimits) -> bool:
    """Whether there is a place for one more, if need be that of whoever has been idle longest."""
    others, site = places.connections, connection.site
    if site is not None and sum(o.site == site for o in others) >= limits.max_per_site:
        _log.warning("%s holds %d connections already", site, limits.max_per_site)
        return False
    if len(others) < limits.max_connections:
        return True
    idle = [other for other in others if not other.is_busy]
    if not idle:
        return False
    others.pop(min(idle, key=lambda other: other.idle_since)).cancel()
    return True
