"""A Flower Grid inside one process: sites are threads, messages are really serialised.

All of a message but its body: those are bytes, which nobody can change, and a model's are large.

The same ClientApp runs here and behind a SuperNode. No ray, no sockets; an empty stage takes
about a hundredth of a second. Uses Flower internals (``TaskIdentity``, ``serde``) that pyproject
pins; ``tests/phoenix_secure/federation/engines`` fails first if they change.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.grid import GridEngine
from phoenix_secure.federation.engines.wire import attach_body, detach_body, error_message

__all__ = ["InProcessGrid", "in_process_engine"]

# Flower's node 1 is the server.
_FIRST_NODE = 2


class InProcessGrid(Grid):
    """Runs ``client_app`` for each site in a pool of ``num_workers`` threads."""

    def __init__(
        self,
        client_app: ClientApp,
        *,
        sites: Sequence[str],
        num_workers: int,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        self._app = client_app
        self._on_close = on_close
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"site": site},
                state=RecordDict(),
                run_config={},
            )
            for node, site in enumerate(sites, start=_FIRST_NODE)
        }
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="site")
        self._futures: dict[str, Future[Message]] = {}
        self._run: Run | None = None
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        if self._run is None:
            raise ValueError("no run was set")
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
            delivered = _through_the_wire(message)
            message_id = delivered.metadata.message_id
            self._futures[message_id] = self._pool.submit(self._answer, delivered)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        # One after another, so that whoever drops each never holds them all.
        for i in message_ids:
            if i in self._futures and self._futures[i].done():
                yield self._futures.pop(i).result()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        futures = [self._futures[i] for i in self.push_messages(messages)]
        replies = [future.result(timeout) for future in futures]
        for reply in replies:
            self._futures.pop(reply.metadata.reply_to_message_id, None)
        return replies

    def close(self) -> None:
        """Tell running sites to stop, drop waiting ones, and join the threads."""
        self._on_close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self, message: Message) -> Message:
        try:
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception:  # a site must never take the server down with it, nor tell it why
            reply = error_message(FailureCode.ERROR, reply_to=message)
        return _through_the_wire(reply)


def in_process_engine(
    client_app: ClientApp,
    *,
    sites: Sequence[str],
    num_workers: int,
    on_close: Callable[[], object] = lambda: None,
) -> GridEngine:
    """An engine whose sites are threads of this process."""
    grid = InProcessGrid(client_app, sites=sites, num_workers=num_workers, on_close=on_close)
    nodes = {site: node for node, site in enumerate(sites, start=_FIRST_NODE)}
    return GridEngine(grid, nodes=nodes, part_bytes=sys.maxsize)


def _through_the_wire(message: Message) -> Message:
    """Serialise and parse, as a network would; only a body's bytes are shared."""
    body = None if message.has_error() else detach_body(message.content)
    delivered = message_from_proto(message_to_proto(message))
    if body is not None:
        attach_body(message.content, body)
        attach_body(delivered.content, body)
    return delivered
