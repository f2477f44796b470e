"""The Fleet proxy in a thread, before something that says what reached it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from phoenix_secure.federation.deployment.fleet_proxy import FleetProxy, door_tls
from phoenix_secure.federation.deployment.proxy_limits import ProxyLimits
from tls_files import make_tls_files

PULL = "/v1/fleet/pull-messages"


@dataclass
class Door:
    """An open door, its files below ``root``, and the requests that passed it."""

    root: Path
    port: int
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def tls(self, site: str | None = None) -> ssl.SSLContext:
        """TLS of a client, with the certificate of ``site``."""
        context = ssl.create_default_context(cafile=str(self.root / "ca.crt"))
        if site is not None:
            context.load_cert_chain(self.root / f"{site}.crt", self.root / f"{site}.key")
        return context

    @contextlib.contextmanager
    def client(self, site: str | None = None) -> Iterator[httpx.Client]:
        """An HTTP client."""
        with httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            verify=self.tls(site),
            trust_env=False,
            timeout=20,
        ) as client:
            yield client

    def knock(self) -> socket.socket:
        """A connection that says nothing yet."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    @contextlib.contextmanager
    def connection(self, site: str | None = None) -> Iterator[ssl.SSLSocket]:
        """A TLS connection for raw bytes."""
        with (
            self.knock() as plain,
            self.tls(site).wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            yield connection


@contextlib.contextmanager
def open_door(
    root: Path,
    *,
    limits: ProxyLimits | None = None,
    sites: tuple[str, ...] = (),
    stays: bool = True,
    nodes: Path | None = None,
) -> Iterator[Door]:
    """A door below ``root``; with ``sites``, for their client certificates alone.

    ``stays``: whether there is something behind it. ``nodes``: the folder that says who is in.
    """
    tls = make_tls_files(federation="f", hosts=["127.0.0.1"], days=2, clients=sites)
    pairs = {"server": (tls.server_certificate, tls.server_key)} | {
        site: (own.certificate, own.key) for site, own in tls.clients.items()
    }
    (root / "ca.crt").write_bytes(tls.ca_certificate)
    for name, (certificate, key) in pairs.items():
        (root / f"{name}.crt").write_bytes(certificate)
        (root / f"{name}.key").write_bytes(key)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    door = Door(root=root, port=listener.getsockname()[1])
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        upstream = "https://127.0.0.1:1"
        if stays:
            upstream = stack.enter_context(_upstream(door))
        proxy = FleetProxy(upstream, root_certificates=root / "ca.crt", limits=limits, nodes=nodes)
        clients = root / "ca.crt" if sites else None
        context = door_tls(
            certificate=root / "server.crt", key=root / "server.key", clients=clients
        )
        with _running(proxy, listener, context):
            yield door


@contextlib.contextmanager
def _upstream(door: Door) -> Iterator[str]:
    class Upstream(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            door.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(401 if b"stranger" in body else 200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("flwr-answer", "yes")
            self.send_header("set-cookie", "no")
            if b"break off" in body:
                self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"pong")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(door.root / "server.crt", door.root / "server.key")
    server.block_on_close = False
    # The handshake belongs to each connection's own thread: in ``accept`` a proxy that was
    # cancelled while it connected would keep the door from ever closing.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def _running(proxy: FleetProxy, listener: socket.socket, context: ssl.SSLContext) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    task = loop.create_task(proxy.serve(listener, tls=context))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)


def wait_until(what, *, seconds: float = 10.0) -> bool:
    """Whether ``what()`` becomes true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
