"""A socket on the loopback that nobody fills: times, sizes and places are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.governance.owner_page.listener import Limits, listen, serving
from phoenix_secure.governance.owner_page.messages import PageReply, PageRequest

QUICK = Limits(request_s=0.5, reply_s=0.5, linger_s=0.1, max_connections=4)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def server(answer: Callable[[PageRequest], PageReply]) -> Iterator[int]:
    where, authority = listen("127.0.0.1", 0)
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(where, answer, limits=QUICK):
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield int(authority.rpartition(":")[2])
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def port() -> Iterator[int]:
    def echo(request: PageRequest) -> PageReply:
        head = f"{request.method} {request.target} {request.headers.get('cookie')} "
        return PageReply(body=head.encode() + request.body)

    with server(echo) as port:
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(4096):
            found += data
    return found


def ask(port: int, sent: bytes) -> bytes:
    with connect(port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        return all_of(connection)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "localhost", "192.0.2.1", "127.0.0.2", ""],  # noqa: S104 - refused
)
def test_only_the_loopback_is_listened_on(address: str) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1 or ::1 only"):
        listen(address, 0)


def test_both_loopbacks_are_and_a_port_in_use_is_named() -> None:
    where, authority = listen("::1", 0)
    with where:
        assert authority.startswith("[::1]:")
    where, authority = listen("127.0.0.1", 0)
    with where, pytest.raises(ConfigError, match="choose another --port"):
        listen("127.0.0.1", int(authority.rpartition(":")[2]))


def test_request_and_reply_pass_whole(port: int) -> None:
    sent = b"POST /a?b=1 HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2\r\nContent-Length: 5"
    reply = ask(port, sent + b"\r\n\r\nhello")
    assert reply.startswith(b"HTTP/1.1 200")
    assert reply.endswith(b"POST /a?b=1 a=1; b=2 hello")


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, b"nonsense\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),  # no Host
        (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        (413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4097\r\n\r\n"),
        (413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        (
            411,
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (64 << 10)),
    ],
    ids=["nonsense", "no-host", "two-hosts", "two-lengths", "long", "endless", "chunked", "head"],
)
def test_what_is_no_small_request_is_refused(port: int, status: int, sent: bytes) -> None:
    assert ask(port, sent).startswith(b"HTTP/1.1 %d" % status)


def test_whoever_sends_too_much_at_once_still_reads_the_refusal(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n"
    assert ask(port, head + b"a" * (256 << 10)).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n",
    ],
    ids=["nothing", "head", "body"],
)
def test_who_drips_is_dropped_after_one_time_for_all(port: int, beginning: bytes) -> None:
    started = time.monotonic()
    with connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(beginning)
            while time.monotonic() - started < 20:
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - started < 10
        assert all_of(connection) == b""


def test_one_request_a_connection(port: int) -> None:
    assert ask(port, GET + GET).count(b"HTTP/1.1 ") == 1


def test_who_waits_longest_makes_room(port: int) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(4)]
        time.sleep(0.1)
        assert ask(port, GET).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        assert all_of(idle[0]) == b""
        assert time.monotonic() - started < 0.3  # and not because its time was up


def test_failure_says_nothing_and_is_logged_by_kind(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: PageRequest) -> PageReply:
        raise KeyError("secret")

    with caplog.at_level(logging.ERROR), server(fail) as port:
        reply = ask(port, GET)
    assert reply.startswith(b"HTTP/1.1 500")
    assert b"secret" not in reply
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text
