"""Flower's SuperLink with a quota for every node, as a process of its own.

Stock Flower keeps whatever a registered node sends: any number of objects of any size, for as long
as the run lasts. Here a node has one open request, the newest. It may answer it once, with no more
bytes than the request allows (``wire.group_of``). What is longer is refused while it arrives, and
the server hears at once that it was.

``python -m phoenix_secure.federation.engines.superlink`` takes the arguments of
``flower-superlink``.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate import LinkState, linkstate_factory
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.date import now
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.superlink.cli.flower_superlink import flower_superlink
from flwr.superlink.servicer.fleet import fleet_handlers

from phoenix_secure.federation.engines.bounded_pull import failed_reply, object_ids
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.flower_address import check_flower_version
from phoenix_secure.federation.engines.wire import max_stored_bytes, read_group
from phoenix_secure.processes import die_with_parent

__all__ = ["BoundedLinkState", "main", "push_messages"]

_log = logging.getLogger(__name__)
_push_messages = fleet_handlers.push_messages


@dataclass(kw_only=True, slots=True)
class _OpenRequest:
    """The newest request to a node, and what has come of its answer.

    max_bytes   of the answer's body
    reply_id    the answer's message, once it was announced, with ``tree``, what it consists of
    left        bytes that its objects may still take
    session     Flower's name for the upload
    """

    message_id: str
    max_bytes: int
    reply_id: str = ""
    tree: bytes = b""
    left: int = 0
    session: str = ""


class BoundedLinkState(InMemoryLinkState):
    """Keeps for each node at most one answer, as long as its request allows.

    Guarantee:  the objects of a node's answers never take more than ``wire.max_stored_bytes`` of
                the newest request's limit; an answer is shown to the server once all of it is
                here.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: dict[int, _OpenRequest] = {}
        self._by_session: dict[str, _OpenRequest] = {}

    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """Store a request of the server, or a node's answer where one is expected."""
        with self._locked():
            if message.metadata.reply_to_message_id:
                return self._store_reply(message, object_tree, session_id)
            stored, missing = super().store_message_and_object_tree(
                message, object_tree, session_id
            )
            if stored:
                self._withdraw(message.metadata.dst_node_id)
                self._open[message.metadata.dst_node_id] = _OpenRequest(
                    message_id=message.metadata.message_id,
                    max_bytes=read_group(message.metadata.group_id)[1],
                )
            return stored, missing

    def store_object(
        self, run_id: int, session_id: str, object_id: str, object_content: bytes
    ) -> bool:
        """Store an object of the server's, or one of a node's answer while it is short enough."""
        if not session_id:  # would be looked up among everybody's uploads
            return False
        with self._locked():
            upload = self._by_session.get(session_id)
            if upload is not None:
                upload.left -= len(object_content)
                if upload.left < 0:
                    self._refuse(upload)
                    return False
            return super().store_object(run_id, session_id, object_id, object_content)

    def get_message_res(self, message_ids: set[str], run_id: int) -> list[Message]:
        """The answers that are here whole, and what became of nodes that are gone."""
        with self._locked():
            whole = {id for id in message_ids if not self._is_arriving(id)}
            return super().get_message_res(whole, run_id) if whole else []

    def _store_reply(
        self, message: Message, tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        metadata = message.metadata
        request = self._open.get(metadata.src_node_id)
        listed = tree.SerializeToString(deterministic=True)
        if (
            request is None
            or request.message_id != metadata.reply_to_message_id
            or tree.object_id != metadata.message_id
            # Announced again after a call was lost: the same, or nothing.
            or (request.reply_id and (request.reply_id, request.tree) != (tree.object_id, listed))
        ):
            self._cleanup_push_session(session_id, cleanup_messages=False)
            return False, []
        is_new = not request.reply_id
        if is_new and object_ids(tree, max_bytes=request.max_bytes) is None:
            self._cleanup_push_session(session_id, cleanup_messages=False)
            self._answer_with(message, FailureCode.MALFORMED)
            return False, []
        stored, missing = super().store_message_and_object_tree(message, tree, session_id)
        if not stored:
            self._cleanup_push_session(session_id, cleanup_messages=False)
            return False, []
        if is_new:
            request.reply_id, request.tree = tree.object_id, listed
            request.left = max_stored_bytes(request.max_bytes)
        self._end_session(request)
        if missing:
            request.session = session_id
            self._by_session[session_id] = request
        else:
            self._cleanup_push_session(session_id, cleanup_messages=False)
        return True, missing

    def _is_arriving(self, message_id: str) -> bool:
        """Whether parts of the answer to ``message_id`` are still to come."""
        reply_id = self.message_ins_id_to_message_res_id.get(message_id)
        session_id = self._object_push_session_by_root.get(reply_id or "")
        if session_id is None:
            return False
        if self._object_push_sessions[session_id].expires_at > now():
            return True
        self._cleanup_push_session(session_id, cleanup_messages=True)
        return False

    def _refuse(self, upload: _OpenRequest) -> None:
        """Drop an answer that grew too long, and say so in its place."""
        message = self.message_res_store.get(upload.reply_id)
        self._drop_upload(upload)
        if message is not None:
            del self.message_res_store[upload.reply_id]
            del self.message_ins_id_to_message_res_id[upload.message_id]
            self._answer_with(message, FailureCode.MALFORMED)

    def _answer_with(self, message: Message, code: FailureCode) -> None:
        """A code in the place of a node's answer ``message``."""
        _log.warning("node %d answered with too much", message.metadata.src_node_id)
        failure = failed_reply(message.metadata, code=code)
        object_id = failure.object_id
        failure.metadata.__dict__["_message_id"] = object_id
        session_id = self.start_session(message.metadata.run_id)
        tree = get_object_tree(failure)
        super().store_message_and_object_tree(failure, tree, session_id)
        super().store_object(message.metadata.run_id, session_id, object_id, failure.deflate())

    def _withdraw(self, node_id: int) -> None:
        """Forget what a node was asked before: nobody waits for the answer any more."""
        request = self._open.pop(node_id, None)
        if request is None:
            return
        self._drop_upload(request)
        message = self.message_ins_store.get(request.message_id)
        # One that was handed out may be on its way to the node, which confirms and so deletes it.
        if message is not None and message.metadata.delivered_at == "":
            self.object_store.delete(request.message_id)
        self.delete_messages({request.message_id})

    def _drop_upload(self, upload: _OpenRequest) -> None:
        self._end_session(upload)
        if upload.reply_id:
            self.object_store.delete(upload.reply_id)

    def _end_session(self, upload: _OpenRequest) -> None:
        self._by_session.pop(upload.session, None)
        self._cleanup_push_session(upload.session, cleanup_messages=False)

    def _locked(self) -> AbstractContextManager[object]:
        """Both locks of Flower's state, in the order in which Flower takes them."""
        stack = ExitStack()
        stack.enter_context(self._lock_object_push_sessions)
        stack.enter_context(self.lock)
        return stack


def push_messages(request: PushMessagesRequest, state: LinkState) -> PushMessagesResponse:
    """The Fleet API's call, for a node's own answer alone: Flower believes the sender's name."""
    senders = {message.metadata.src_node_id for message in request.messages_list}
    if senders != {request.node.node_id} or len(request.message_object_trees) != 1:
        raise FlowerError(ApiErrorCode.RUNTIME_UNEXPECTED_NODE_ID, "Unexpected node ID.")
    return _push_messages(request, state)


def main() -> None:
    """Run a SuperLink until it is stopped or the process that started it is gone."""
    check_flower_version()
    die_with_parent()
    vars(linkstate_factory)["InMemoryLinkState"] = BoundedLinkState
    vars(fleet_handlers)["push_messages"] = push_messages
    flower_superlink()


if __name__ == "__main__":
    main()
