"""A SuperLink's state and handlers in this process: all of it but HTTP.

``Network`` has the engine that a server uses; ``Node`` is a registered site, honest or not.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node as NodeProto
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

from phoenix_secure.federation.engines.flower_task import _LosableGrid
from phoenix_secure.federation.engines.grid import GridEngine
from phoenix_secure.federation.engines.superlink import BoundedLinkState, push_messages
from phoenix_secure.federation.engines.wire import pack, unpack_request

SUPERLINK = 1


class Network:
    """``sites`` are registered and online; ``engine`` asks them.

    ``stock``: behind Flower's own SuperLink, which keeps whatever comes.
    """

    def __init__(self, sites: tuple[str, ...], *, stock: bool = False) -> None:
        kind = InMemoryLinkState if stock else BoundedLinkState
        self.state = kind(NoOpFederationManager(), InMemoryObjectStore())
        self.run_id = self.state.create_run(
            fab_id="",
            fab_version="",
            fab_hash="x",
            override_config={},
            federation_id=NOOP_FEDERATION_ID,
            federation_config=None,
            flwr_aid="",
            primary_task_type=TaskType.SERVER_APP,
        )
        (self.task,) = self.state.get_tasks()
        self.state.claim_task(self.task.task_id)
        self.state.activate_task(self.task.task_id)
        TaskIdentity.task_id, TaskIdentity.run_id = self.task.task_id, self.run_id
        TaskIdentity.node_id = SUPERLINK
        self.nodes = {site: Node(self, site) for site in sites}
        self.grid = _LosableGrid.__new__(_LosableGrid)
        self.grid._client = _Direct(self.state, self.task)
        self.grid._pulls, self.grid._limits, self.grid._slots = {}, {}, threading.Semaphore(2)
        self.grid.node = NodeProto(node_id=SUPERLINK)
        self.grid._run = SimpleNamespace(run_id=self.run_id)
        self.grid._run_id = self.run_id
        ids = {site: node.node_id for site, node in self.nodes.items()}
        self.engine = GridEngine(self.grid, nodes=ids, poll_s=0.01)

    @property
    def stored_bytes(self) -> int:
        """All content that the SuperLink keeps."""
        return sum(len(entry.content) for entry in self.state.object_store.store.values())

    def close(self) -> None:
        for pull in self.grid._pulls.values():
            pull.abandon()


class _Direct:
    """The Runtime API, called."""

    def __init__(self, state, task) -> None:
        self._state, self._task = state, task

    def __getattr__(self, name: str):
        handler = {
            "PushMessages": runtime_handlers.push_messages,
            "PullMessages": runtime_handlers.pull_messages,
            "PushObject": runtime_handlers.push_object,
            "PullObject": runtime_handlers.pull_object,
            "ConfirmMessageReceived": runtime_handlers.confirm_message_received,
        }[name]
        return lambda request: handler(request, self._state, self._task)

    def close(self) -> None:
        pass


class Node:
    """One registered node and the Fleet calls that it makes."""

    def __init__(self, network: Network, name: str) -> None:
        self.network, self.name = network, name
        self.node_id = network.state.create_node("", "", name.encode(), 0)
        network.state.activate_node(self.node_id, 30)
        self.proto = NodeProto(node_id=self.node_id)

    def receive(self) -> Message | None:
        """The next request, as a SuperNode fetches it."""
        state, request = self.network.state, PullMessagesRequest(node=self.proto)
        found = fleet_handlers.pull_messages(request, state, state.object_store)
        if not found.messages_list:
            return None
        tree = found.message_object_trees[0]
        store = state.object_store.store
        ids = [part.object_id for part in iterate_object_tree(tree)]
        while not all(store[id].is_available for id in ids):  # the server is still uploading
            time.sleep(0.005)
        contents = {id: store[id].content for id in ids}
        message = inflate_object_from_contents(tree.object_id, contents)
        message.metadata.__dict__["_message_id"] = tree.object_id
        self.confirm(tree.object_id)
        return message

    def confirm(self, message_id: str) -> None:
        """Say that a message is here, so that the SuperLink forgets its content."""
        state = self.network.state
        request = ConfirmMessageReceivedRequest(
            node=self.proto, run_id=self.network.run_id, message_object_id=message_id
        )
        fleet_handlers.confirm_message_received(request, state, state.object_store)

    def announce(self, reply: Message, *, tree=None):
        """Say what the answer consists of; what the SuperLink wants of it."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        request = PushMessagesRequest(
            node=self.proto,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree or get_object_tree(reply)],
        )
        return push_messages(request, self.network.state)

    def push(self, session_id: str, object_id: str, content: bytes) -> bool:
        """Upload one object; whether it was taken."""
        request = PushObjectRequest(
            node=self.proto,
            run_id=self.network.run_id,
            session_id=session_id,
            object_id=object_id,
            object_content=content,
        )
        return fleet_handlers.push_object(request, self.network.state).stored

    def upload(self, reply: Message) -> int:
        """Announce and upload ``reply`` to the end or to the first refusal; objects taken."""
        taken = 0
        with no_object_id_recompute():
            answer = self.announce(reply)
            wanted = set(answer.objects_to_push)
            for object_id, found in get_all_nested_objects(reply).items():
                if object_id in wanted:
                    if not self.push(answer.session_id, object_id, found.deflate()):
                        break
                    taken += 1
        return taken

    def reply(self, request: Message, body: bytes) -> Message:
        """An answer of ``body`` to the stage of ``request``."""
        stage, _ = unpack_request(request)
        return Message(pack(stage, body), reply_to=request)
