"""The only door of the server: a TLS proxy that lets Flower's Fleet API through and nothing else.

A SuperLink serves three APIs on one port. Two of them, Control (start runs, let nodes in) and
Runtime (take over a run), need no account. So the SuperLink stays on the loopback and this proxy
faces the network. A request is passed on when its method and path are *exactly* one of the calls
that a SuperNode makes; a path with anything to decode in it is refused rather than interpreted.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from phoenix_secure.processes import die_with_parent

__all__ = ["fleet_proxy", "serve_fleet_proxy"]

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
# Large messages go in objects of at most 5 MiB (``engines.wire``), each in a call of its own. A
# stranger's request is held in memory before the SuperLink refuses it, so the limit is close to it.
MAX_BODY_BYTES = 16 << 20
_REQUEST_HEADERS = re.compile(r"(content-type|accept|user-agent|traceparent|flwr.*|x-flwr.*)")
_RESPONSE_HEADERS = re.compile(r"(content-type|flwr.*|x-flwr.*)")


def fleet_proxy(upstream: str, *, root_certificates: Path) -> Starlette:
    """The application that passes Fleet calls to ``upstream`` (``https://127.0.0.1:PORT``)."""
    verify = ssl.create_default_context(cafile=str(root_certificates))
    client = httpx.AsyncClient(base_url=upstream, verify=verify, timeout=120, trust_env=False)

    async def forward(request: Request) -> Response:
        raw_path: bytes = request.scope.get("raw_path", b"")
        if raw_path not in _CALLS or request.url.query:
            return Response("only the Fleet API is served here\n", 403)
        try:
            body = b"".join([chunk async for chunk in _limited(request)])
        except _TooLarge:
            return Response("request too large\n", 413)
        try:
            answer = await client.post(
                raw_path.decode("ascii"),
                content=body,
                headers=_only(request.headers.items(), _REQUEST_HEADERS),
            )
        except httpx.HTTPError:
            return Response("the SuperLink is away\n", 502)
        headers = _only(answer.headers.items(), _RESPONSE_HEADERS)
        return Response(answer.content, answer.status_code, headers)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(routes=[Route("/{path:path}", forward, methods=["POST"])], lifespan=lifespan)


def serve_fleet_proxy(
    upstream: str, *, host: str, port: int, root_certificates: Path, certificate: Path, key: Path
) -> None:
    """Serve until stopped."""
    uvicorn.run(
        fleet_proxy(upstream, root_certificates=root_certificates),
        host=host,
        port=port,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        log_level="warning",
        access_log=False,
        ws="none",
        server_header=False,
    )


class _TooLarge(Exception):  # noqa: N818
    pass


async def _limited(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces, up to the limit."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _TooLarge
        yield chunk


def _only(headers: Iterable[tuple[str, str]], wanted: re.Pattern[str]) -> dict[str, str]:
    return {name: value for name, value in headers if wanted.fullmatch(name.lower())}


def main() -> None:
    """The command of ``deploy.commands.fleet_proxy``."""
    die_with_parent()
    parser = argparse.ArgumentParser(description="Pass Flower's Fleet API on and nothing else")
    for name in ("--upstream", "--host"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("--root-certificates", "--certificate", "--key"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    serve_fleet_proxy(
        given.upstream,
        host=given.host,
        port=given.port,
        root_certificates=given.root_certificates,
        certificate=given.certificate,
        key=given.key,
    )


if __name__ == "__main__":
    main()
