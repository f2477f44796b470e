"""The few calls of Flower that we make, in one place; several are internals of a pinned version.

Flower's own clients retry for ever and send SIGINT to their own process when a token is refused.
Neither fits a process that keeps a model in memory, so the clients made here never retry by
themselves: whoever calls decides.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

import httpx
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient

from phoenix_secure.federation.engines.flower_address import FlowerAddress, spare_loopback

__all__ = [
    "TaskHeartbeat",
    "acquire_task",
    "claiming_client",
    "control_client",
    "list_nodes",
    "register_node",
    "start_run",
    "task_client",
]

_HEARTBEAT_S = 10.0


def control_client(where: FlowerAddress) -> ControlHttpClient:
    """A client of the Control API; it needs no account, so that API must stay on loopback."""
    spare_loopback(os.environ)
    return ControlHttpClient.from_server_address(
        server_address=where.address,
        insecure=where.root_certificates is None,
        root_certificates=where.root_certificates,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )


def register_node(client: ControlHttpClient, *, key: bytes, name: str) -> None:
    """Let the node with this public key in; one that is in already stays so."""
    if key in {node.public_key for node in client.ListNodes(ListNodesRequest()).nodes_info}:
        return
    client.RegisterNode(RegisterNodeRequest(public_key=key, name=name))


def list_nodes(client: ControlHttpClient) -> dict[bytes, tuple[int, str]]:
    """Public key -> (node id, status) of every registered node."""
    nodes = client.ListNodes(ListNodesRequest()).nodes_info
    return {node.public_key: (node.node_id, node.status) for node in nodes}


def start_run(client: ControlHttpClient, *, bundle: bytes, bundle_hash: str) -> int:
    """Start a run of ``bundle`` and return its id."""
    fab = Fab(hash_str=bundle_hash, content=bundle)
    return int(client.StartRun(StartRunRequest(fab=fab)).run_id)


def claiming_client(where: FlowerAddress) -> RuntimeHttpClient:
    """A client that may claim tasks."""
    interceptors: list[RuntimeVersionHttpInterceptor | SuperExecAuthHttpInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperExec")
    ]
    if where.secret is not None:
        interceptors.append(
            SuperExecAuthHttpInterceptor(
                master_secret=where.secret,
                protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"}),
            )
        )
    return _runtime_client(where, interceptors)


def acquire_task(client: RuntimeHttpClient, *, task_type: str) -> str | None:
    """Claim the next task of that type by a ``claiming_client``; its token, or None.

    Raises:     httpx.HTTPError when the API is away or the secret is refused.
    """
    answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[task_type]))
    return answer.token if answer.HasField("task") and answer.token else None


def task_client(where: FlowerAddress, *, token: str, component: str) -> RuntimeHttpClient:
    """A client that acts for one task."""
    return _runtime_client(
        where,
        [
            RuntimeVersionHttpInterceptor(component_name=component),
            RuntimeTokenHttpInterceptor(token),
        ],
    )


def _runtime_client(where: FlowerAddress, interceptors: list) -> RuntimeHttpClient:  # type: ignore[type-arg]
    spare_loopback(os.environ)
    return RuntimeHttpClient.from_server_address(
        server_address=where.address,
        insecure=where.root_certificates is None,
        root_certificates=where.root_certificates,
        interceptors=interceptors,
        retry_invoker=None,
    )


class TaskHeartbeat:
    """Says every ten seconds that a task is alive, for as long as the block lasts."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="task-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_S):
            try:
                self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except (httpx.HTTPError, ValueError):
                # The next real call will say what is wrong; Flower would send SIGINT here.
                continue
