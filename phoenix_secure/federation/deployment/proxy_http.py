"""HTTP/1.1 at the Fleet proxy: each request is one call, passed on in pieces, in a time of its own.

Nothing is kept of a body but the piece that is on its way. A body announces its length, as Flower's
do, and is refused before it is read where that is too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import h11
import httpx

from phoenix_secure.federation.deployment.proxy_connections import Connection
from phoenix_secure.federation.deployment.proxy_limits import (
    SMALL_BODY_BYTES,
    ProxyLimits,
    max_body_bytes,
)
from protocol.encoding import is_id

__all__ = ["Upstream", "serve_requests"]

# What a registered SuperNode calls. Not register-node: nodes are let in at the server itself.
_CALLS = frozenset(
    f"/v1/fleet/{call}".encode()
    for call in (
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "get-fab",
        "get-run",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "send-node-heartbeat",
    )
)
_REQUEST_HEADERS = re.compile(rb"(content-type|accept|user-agent|traceparent|flwr.*|x-flwr.*)")
_RESPONSE_HEADERS = re.compile(rb"(content-type|content-length|flwr.*|x-flwr.*)")
_MAX_HEAD_BYTES = 16 << 10
_READ_BYTES = 64 << 10

Headers = list[tuple[bytes, bytes]]
# How long and how much of a refused body is thrown away, so that its sender reads the refusal.
_LINGER_S = 2.0
_LINGER_BYTES = 32 << 20


@dataclass(kw_only=True, slots=True)
class Upstream:
    """The way to the SuperLink, and how much of it is taken.

    nodes      folder with a file ``SITE.pub`` for each site of the roster, which may change at any
               time; None lets in the holder of any certificate of the authority
    uploads    large bodies under way, of all sites and of each
    """

    client: httpx.AsyncClient
    limits: ProxyLimits
    nodes: Path | None = None
    uploads: asyncio.Semaphore = field(init=False)
    _of_site: defaultdict[str, asyncio.Semaphore] = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self.uploads = asyncio.Semaphore(limits.max_uploads)
        self._of_site = defaultdict(lambda: asyncio.Semaphore(limits.max_uploads_per_site))

    def lets_in(self, site: str | None) -> bool:
        """Whether the holder of a certificate for ``site`` is in the roster; None: of none."""
        if self.nodes is None or site is None:
            return True
        return is_id(site) and (self.nodes / f"{site}.pub").is_file()

    @contextlib.asynccontextmanager
    async def upload(self, site: str | None) -> AsyncIterator[None]:
        """A place for one large body; waits for it."""
        own = self.uploads if site is None else self._of_site[site]
        async with own:
            if own is self.uploads:
                yield
                return
            async with self.uploads:
                yield


async def serve_requests(connection: Connection, upstream: Upstream) -> None:
    """Serve a connection's requests, one after another, until either end closes.

    Raises:     OSError where it went away or took too long: it is to be dropped.
    """
    exchanges = _Exchanges(connection, upstream)
    with contextlib.suppress(httpx.HTTPError, h11.LocalProtocolError):
        while await exchanges.serve_one():
            pass


class _RefusedError(Exception):
    """The request ends here, with a status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Exchanges:
    """The requests of one connection."""

    def __init__(self, connection: Connection, upstream: Upstream) -> None:
        self._connection = connection
        self._upstream = upstream
        self._limits = upstream.limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._method = b""
        self._wait_s = self._limits.head_s  # who connects has something to say

    async def serve_one(self) -> bool:
        """Serve one request; whether there may be another."""
        connection = self._connection
        try:
            request = await self._next_request()
            if request is None:
                return False
            connection.is_busy, self._method = True, request.method
            await self._answer(request)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, "not a request\n")
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            await self._linger()
            return False
        self._http.start_next_cycle()
        connection.is_busy, connection.idle_since = False, asyncio.get_running_loop().time()
        self._wait_s = self._limits.idle_s
        return True

    async def _next_request(self) -> h11.Request | None:
        if not self._http.trailing_data[0]:
            async with asyncio.timeout(self._wait_s):
                await self._read()
        async with asyncio.timeout(self._limits.head_s):
            event = await self._next_event()
        return event if isinstance(event, h11.Request) else None

    async def _answer(self, request: h11.Request) -> None:
        try:
            # Certificates hold for months; who was suspended or revoked is out with its next call.
            if not self._upstream.lets_in(self._connection.site):
                raise _RefusedError(403, "not in the roster\n")
            size = _body_size(request)
            async with contextlib.AsyncExitStack() as places:
                if size > SMALL_BODY_BYTES:
                    await places.enter_async_context(self._upstream.upload(self._connection.site))
                await self._forward(request, size)
        except _RefusedError as refusal:
            await self._refuse(refusal.status, str(refusal))

    async def _forward(self, request: h11.Request, size: int) -> None:
        headers = _only(request.headers, _REQUEST_HEADERS)
        headers.append((b"content-length", str(size).encode()))
        client = self._upstream.client
        call = client.build_request(
            "POST", request.target.decode("ascii"), content=self._body(), headers=headers
        )
        try:
            answer = await client.send(call, stream=True)
        except httpx.HTTPError:
            raise _RefusedError(502, "the SuperLink is away\n") from None
        async with contextlib.aclosing(answer), asyncio.timeout(self._limits.answer_s):
            await self._send(
                h11.Response(
                    status_code=answer.status_code,
                    headers=_only(answer.headers.raw, _RESPONSE_HEADERS),
                )
            )
            async for piece in answer.aiter_raw():
                await self._send(h11.Data(data=piece))
            await self._send(h11.EndOfMessage())

    async def _body(self) -> AsyncIterator[bytes]:
        """The request's body in pieces; h11 holds it to its announced length."""
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        end = asyncio.get_running_loop().time() + self._limits.body_s
        while True:
            async with asyncio.timeout_at(end):
                event = await self._next_event()
            if not isinstance(event, h11.Data):
                return
            yield bytes(event.data)

    async def _refuse(self, status: int, why: str) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = why.encode()
        headers = [
            ("content-length", str(len(body))),
            ("content-type", "text/plain"),
            # By which a site finds out that its clock is off (RFC 9110, section 6.6.1).
            ("date", email.utils.formatdate(usegmt=True)),
        ]
        if self._http.their_state is not h11.DONE:
            headers.append(("connection", "close"))  # what is left of its body is not read
        await self._send(h11.Response(status_code=status, headers=headers))
        if self._method != b"HEAD":
            await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    async def _linger(self) -> None:
        """Throw the rest of a refused request away for a moment, instead of resetting at once."""
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0 and (data := await self._connection.reader.read(_READ_BYTES)):
                    left -= len(data)

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return cast("h11.Event | type[h11.PAUSED]", event)
            await self._read()

    async def _read(self) -> None:
        self._http.receive_data(await self._connection.reader.read(_READ_BYTES))

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._connection.writer.write(data)
            async with asyncio.timeout(self._limits.answer_s):
                await self._connection.writer.drain()


def _body_size(request: h11.Request) -> int:
    """The length of the body of a call that is passed on.

    Raises:     _RefusedError for everything else.
    """
    if request.target not in _CALLS:
        raise _RefusedError(403, "only the Fleet API is served here\n")
    if request.method != b"POST":
        raise _RefusedError(405, "calls of the Fleet API are POST\n")
    headers = dict(request.headers)
    if b"transfer-encoding" in headers:
        raise _RefusedError(411, "a body must announce its length\n")
    size = int(headers.get(b"content-length", b"0"))  # h11 has checked the header
    if size > max_body_bytes(request.target):
        raise _RefusedError(413, "request too large\n")
    return size


def _only(headers: Iterable[tuple[bytes, bytes]], wanted: re.Pattern[bytes]) -> Headers:
    return [(name, value) for name, value in headers if wanted.fullmatch(name.lower())]
