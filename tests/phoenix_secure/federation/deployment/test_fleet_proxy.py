"""The server's door over real TLS: Fleet calls pass, everything else ends here."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from pathlib import Path

import httpx
import pytest
import uvicorn

from phoenix_secure.federation.deployment.certificates import make_tls_files
from phoenix_secure.federation.deployment.fleet_proxy import MAX_BODY_BYTES, fleet_proxy
from rehearsal import free_ports


class Upstream(http.server.BaseHTTPRequestHandler):
    """Stands where the SuperLink is, and says what reached it."""

    seen: list[tuple[str, dict[str, str], bytes]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(401 if b"stranger" in body else 200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("flwr-answer", "yes")
        self.send_header("set-cookie", "no")
        self.end_headers()
        self.wfile.write(b"pong")

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("proxy")
    tls = make_tls_files(federation="f", hosts=["127.0.0.1"], days=2)
    for name, content in (
        ("ca.crt", tls.ca_certificate),
        ("crt", tls.server_certificate),
        ("key", tls.server_key),
    ):
        (root / name).write_bytes(content)
    upstream_port, port = free_ports(2)
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", upstream_port), Upstream)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(root / "crt", root / "key")
    upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    app = fleet_proxy(f"https://127.0.0.1:{upstream_port}", root_certificates=root / "ca.crt")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            ssl_certfile=str(root / "crt"),
            ssl_keyfile=str(root / "key"),
            log_level="error",
            ws="none",
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    verify = ssl.create_default_context(cafile=str(root / "ca.crt"))
    with httpx.Client(
        base_url=f"https://127.0.0.1:{port}", verify=verify, trust_env=False, timeout=20
    ) as client:
        for _ in range(200):
            try:
                client.get("/")
                break
            except httpx.ConnectError:
                threading.Event().wait(0.05)
        yield client, port, verify, upstream
    server.should_exit = True
    thread.join(20)
    upstream.shutdown()


@pytest.fixture(autouse=True)
def _forget() -> None:
    Upstream.seen.clear()


def test_fleet_calls_pass_with_flowers_headers_and_no_others(proxy) -> None:
    client, *_ = proxy
    answer = client.post(
        "/v1/fleet/pull-messages",
        content=b"ping",
        headers={"flwr-public-key": "k", "cookie": "c", "x-forwarded-for": "1.2.3.4"},
    )
    assert (answer.status_code, answer.content) == (200, b"pong")
    assert answer.headers["flwr-answer"] == "yes"
    assert "set-cookie" not in answer.headers
    ((path, headers, body),) = Upstream.seen
    assert (path, body, headers["flwr-public-key"]) == ("/v1/fleet/pull-messages", b"ping", "k")
    assert not {"cookie", "x-forwarded-for"} & headers.keys()


def test_refusals_of_the_superlink_come_through(proxy) -> None:
    client, *_ = proxy
    assert client.post("/v1/fleet/pull-messages", content=b"stranger").status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/health",
        "/docs",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull-messages?x=1",
        "/V1/FLEET/pull-messages",
        "//v1/fleet/pull-messages",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol%2flist-nodes",
        "/v1/fleet/pull%2dmessages",
        "/v1/fleet/pull-messages%00",
        "/v1/fleet/pull-messages;/../../control/list-nodes",
        "http://127.0.0.1/v1/control/list-nodes",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_everything_else_ends_at_the_proxy(proxy, target: str, method: str) -> None:
    """As raw bytes, because clients tidy paths up."""
    _, port, verify, _ = proxy
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        verify.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        head = f"{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close"
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = connection.recv(4096).split(b" ", 2)[1]
    assert answer in {b"400", b"403", b"404", b"405"}
    assert Upstream.seen == []


def test_other_methods_are_refused_on_fleet_paths(proxy) -> None:
    client, *_ = proxy
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/v1/fleet/pull-messages").status_code in {403, 405}
    assert Upstream.seen == []


def test_oversized_requests_are_cut_off(proxy) -> None:
    client, *_ = proxy

    def chunks():
        for _ in range(MAX_BODY_BYTES // (1 << 20) + 1):
            yield bytes(1 << 20)

    assert client.post("/v1/fleet/push-object", content=chunks()).status_code == 413
    assert Upstream.seen == []


def test_absent_superlink_is_a_plain_502(tmp_path: Path) -> None:
    tls = make_tls_files(federation="f", hosts=["127.0.0.1"], days=2)
    (tmp_path / "ca.crt").write_bytes(tls.ca_certificate)
    (port,) = free_ports(1)
    app = fleet_proxy(f"https://127.0.0.1:{port}", root_certificates=tmp_path / "ca.crt")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
            return await client.post("/v1/fleet/pull-messages")

    import asyncio

    assert asyncio.run(ask()).status_code == 502
