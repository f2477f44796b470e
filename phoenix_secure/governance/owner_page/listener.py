"""The owner's page on a socket: HTTP/1.1 on the loopback, one request a connection, in bounds.

Whoever has an account on this machine can connect. What a connection may take is bounded before
anybody knows whose it is: size and time of a request as a whole, not of its pieces; places for
connections, of which the one that has waited longest for its request makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import h11

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.hosts import host_port
from phoenix_secure.governance.owner_page.messages import PageReply, PageRequest

__all__ = ["Limits", "listen", "serving"]

_LOOPBACKS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
_READ_BYTES = 4 << 10
_LINGER_BYTES = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds for whoever connects.

    request_s, reply_s       for a whole request to arrive; for a reply to be taken
    linger_s                 for the rest of a refused request, so that its sender reads the refusal
    head_bytes, body_bytes   of a request
    max_connections          at a time
    """

    request_s: float = 10.0
    reply_s: float = 30.0
    linger_s: float = 1.0
    head_bytes: int = 8 << 10
    body_bytes: int = 4 << 10
    max_connections: int = 32


def listen(address: str, port: int) -> tuple[socket.socket, str]:
    """A listening socket on the loopback, and its ``HOST:PORT``; port 0 takes any free one.

    Raises:     ConfigError for any other address, and for a port in use.
    """
    family = _LOOPBACKS.get(address)
    if family is None:
        raise ConfigError(
            f"--address {address}: the owner's page is served on 127.0.0.1 or ::1 only; from "
            "another machine forward the port, `ssh -L PORT:127.0.0.1:PORT USER@SITE`"
        )
    try:
        made = socket.create_server((address, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on port {port} of {address} ({error.strerror or error}): choose "
            "another --port"
        ) from error
    return made, host_port(address, made.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(
    where: socket.socket,
    answer: Callable[[PageRequest], PageReply],
    *,
    limits: Limits | None = None,
) -> AsyncIterator[None]:
    """Serve ``answer`` on a listening socket while the context is open.

    ``answer`` runs in threads; requests that are not whole or too large never reach it.
    """
    connections = _Connections(answer, limits or Limits())
    server = await asyncio.start_server(connections.serve, sock=where, limit=_READ_BYTES)
    try:
        yield
    finally:
        server.close()
        await connections.end()


class _RefusedError(Exception):
    """The request ends here, with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Connections:
    """All connections; ``_waiting`` are those whose request is not whole yet, oldest first."""

    def __init__(self, answer: Callable[[PageRequest], PageReply], limits: Limits) -> None:
        self._answer = answer
        self._limits = limits
        self._open: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None], None] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("expected to run in a task")
        if len(self._open) >= self._limits.max_connections:
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                writer.transport.abort()
                return
            del self._waiting[oldest]
            oldest.cancel()
        self._open.add(task)
        self._waiting[task] = None
        try:
            # Whoever goes away or takes too long is dropped; a cancelled one made room.
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._exchange(reader, writer, task)
        finally:
            self._open.discard(task)
            self._waiting.pop(task, None)
            writer.transport.abort()

    async def end(self) -> None:
        """End every connection."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        try:
            async with asyncio.timeout(self._limits.request_s):
                request = await self._read(http, reader)
            self._waiting.pop(task, None)
            reply = await asyncio.to_thread(self._answer, request)
        except _RefusedError as refused:
            reply = PageReply(status=refused.status, content_type="text/plain")
        except h11.RemoteProtocolError as error:
            reply = PageReply(status=error.error_status_hint, content_type="text/plain")
        except (OSError, TimeoutError):
            raise
        except Exception as error:
            # Only the kind: a message could hold a path or a value.
            _log.error("the owner's page failed: %s", type(error).__name__)
            reply = PageReply(status=500, content_type="text/plain")
        async with asyncio.timeout(self._limits.reply_s):
            await _send(http, writer, reply)
        await self._linger(reader)

    async def _linger(self, reader: asyncio.StreamReader) -> None:
        """Throw the rest of a refused request away for a moment, instead of resetting at once."""
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while left > 0 and (data := await reader.read(_READ_BYTES)):
                    left -= len(data)

    async def _read(self, http: h11.Connection, reader: asyncio.StreamReader) -> PageRequest:
        """One request as a whole.

        Raises:     _RefusedError, h11.RemoteProtocolError; ConnectionError where there is none.
        """
        head, body = None, b""
        while True:
            event = http.next_event()
            match event:
                case h11.NEED_DATA:
                    data = await reader.read(_READ_BYTES)
                    http.receive_data(data)
                    if not data and head is None:
                        raise ConnectionResetError("nothing was asked")
                case h11.Request():
                    head = event
                    self._check_head(head)
                case h11.Data():
                    body += bytes(event.data)
                case h11.EndOfMessage() if head is not None:
                    return _request(head, body)
                case _:
                    raise ConnectionResetError("nothing was asked")

    def _check_head(self, head: h11.Request) -> None:
        headers = dict(head.headers)
        if b"transfer-encoding" in headers:
            raise _RefusedError(411)
        # h11 has checked the header, and holds the body to it.
        if int(headers.get(b"content-length", b"0")) > self._limits.body_bytes:
            raise _RefusedError(413)


def _request(head: h11.Request, body: bytes) -> PageRequest:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        together = "; " if key == "cookie" else ", "
        headers[key] = f"{headers[key]}{together}{text}" if key in headers else text
    return PageRequest(
        method=head.method.decode("latin-1"),
        target=head.target.decode("latin-1"),
        headers=headers,
        body=body,
    )


async def _send(http: h11.Connection, writer: asyncio.StreamWriter, reply: PageReply) -> None:
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    head = h11.Response(status_code=reply.status, headers=list(reply.all_headers().items()))
    for event in (head, h11.Data(data=reply.body), h11.EndOfMessage()):
        writer.write(http.send(event) or b"")
    await writer.drain()
    writer.write_eof()
