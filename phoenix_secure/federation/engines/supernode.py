"""Flower's SuperNode, quicker to hear and to come back, as a process of its own.

- Stock Flower looks for messages every three seconds, which a protocol of six stages pays in
  every stage of every round. ``PHOENIX_SUPERNODE_POLL_S`` sets the pause. The worker's answer is
  looked for in this process alone, and more often.
- The site's worker would have to ask all the time whether there is a task. This SuperNode touches
  the file ``PHOENIX_SUPERNODE_WAKE`` when there is one.
- A SuperNode that was killed is refused (exit code 305) until the SuperLink has missed its
  heartbeats for a minute. This one remembers its node id in ``PHOENIX_SUPERNODE_STATE`` and first
  signs off, with its own key, what died.
- The server's door asks for a client certificate: ``PHOENIX_SUPERNODE_CERTIFICATE`` and
  ``PHOENIX_SUPERNODE_CERTIFICATE_KEY`` name it. Without them none is shown.

``python -m phoenix_secure.federation.engines.supernode`` takes the arguments of
``flower-supernode``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.fleet_http_connection import http_request_response
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from phoenix_secure.federation.engines.flower_address import check_flower_version
from phoenix_secure.federation.engines.prompt_pulls import use_prompt_pulls
from phoenix_secure.files import write_bytes
from phoenix_secure.processes import die_with_parent

__all__ = [
    "CERTIFICATE_VARIABLE",
    "KEY_VARIABLE",
    "POLL_VARIABLE",
    "STATE_VARIABLE",
    "WAKE_VARIABLE",
    "CertifiedClient",
    "main",
]

CERTIFICATE_VARIABLE = "PHOENIX_SUPERNODE_CERTIFICATE"
KEY_VARIABLE = "PHOENIX_SUPERNODE_CERTIFICATE_KEY"
POLL_VARIABLE = "PHOENIX_SUPERNODE_POLL_S"
STATE_VARIABLE = "PHOENIX_SUPERNODE_STATE"
WAKE_VARIABLE = "PHOENIX_SUPERNODE_WAKE"
_DEFAULT_POLL_S = 0.3
# Flower's pause between two looks at the server, and its pause between two looks for an answer.
_SERVER_PAUSE_S = 3
_ANSWER_POLL_S = 0.02

NodeKeys = tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]


class _ShorterPauses:
    """The module ``time`` as the SuperNode's loop sees it."""

    def __init__(self, server_s: float) -> None:
        self._server_s = server_s

    def sleep(self, seconds: float) -> None:
        time.sleep(self._server_s if seconds == _SERVER_PAUSE_S else _ANSWER_POLL_S)


class CertifiedClient(FleetHttpClient):
    """Flower's client of the Fleet API, with the certificate that the environment names."""

    @classmethod
    def from_server_address(
        cls,
        server_address: str,
        insecure: bool,
        root_certificates: bytes | str | None,
        interceptors: Sequence[ProtobufClientInterceptor],
        *,
        retry_invoker: RetryInvoker | None = None,
    ) -> Self:
        certificate = os.environ.get(CERTIFICATE_VARIABLE)
        if certificate is None or insecure or root_certificates is None:
            return super().from_server_address(
                server_address,
                insecure,
                root_certificates,
                interceptors,
                retry_invoker=retry_invoker,
            )
        if isinstance(root_certificates, bytes):
            tls = ssl.create_default_context(cadata=root_certificates.decode("ascii"))
        else:
            tls = ssl.create_default_context(cafile=root_certificates)
        tls.load_cert_chain(certificate, os.environ[KEY_VARIABLE])
        return cls(
            f"https://{server_address}",
            interceptors=interceptors,
            verify=tls,
            retry_invoker=retry_invoker,
        )


def main() -> None:
    """Run a SuperNode until it is stopped or the process that started it is gone."""
    check_flower_version()
    die_with_parent()
    pause = float(os.environ.get(POLL_VARIABLE, _DEFAULT_POLL_S))
    # The loop calls time.sleep(3) and time.sleep(0.5) and nothing else of the module.
    vars(start_client_internal)["time"] = _ShorterPauses(pause)
    vars(start_client_internal)["http_request_response"] = _connection
    use_prompt_pulls(start_client_internal, "pull_objects")
    if wake := os.environ.get(WAKE_VARIABLE):
        vars(start_client_internal)["_pull_and_store_message"] = functools.partial(
            _pull_and_wake, start_client_internal._pull_and_store_message, Path(wake)
        )
    vars(fleet_http_connection)["FleetHttpClient"] = CertifiedClient
    flower_supernode()


def _pull_and_wake(pull: Callable[..., int | None], wake: Path, **given: Any) -> int | None:
    """Flower's ``pull``, and a touch of ``wake`` for the worker where it brought a message."""
    found = pull(**given)
    if found is not None:
        with contextlib.suppress(OSError):  # a full disk: the worker looks by itself before long
            wake.touch()
    return found


@contextlib.contextmanager
def _connection(
    address: str,
    insecure: bool,
    root_certificates: bytes | str | None,
    keys: NodeKeys | None,
    max_retries: int | None,
    max_wait_s: float | None,
) -> Iterator[tuple[Any, ...]]:
    """Flower's connection, after signing off the node that a killed process left online."""
    state = os.environ.get(STATE_VARIABLE)
    if state and keys:
        _sign_off(Path(state), address, root_certificates, keys)
    with http_request_response(
        address, insecure, root_certificates, keys, max_retries, max_wait_s
    ) as connection:
        if state:
            write_bytes(Path(state), str(connection[0]).encode())
        yield connection


def _sign_off(
    state: Path, address: str, root_certificates: bytes | str | None, keys: NodeKeys
) -> None:
    """Best effort: where it fails, Flower refuses us for a minute and we are started again."""
    try:
        node_id = int(state.read_text())
    except (OSError, ValueError):
        return
    interceptors: list[RuntimeVersionHttpInterceptor | NodeAuthHttpInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(*keys),
    ]
    with (
        contextlib.suppress(httpx.HTTPError),
        CertifiedClient.from_server_address(
            address, False, root_certificates, interceptors=interceptors
        ) as client,
    ):
        client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))


if __name__ == "__main__":
    main()
