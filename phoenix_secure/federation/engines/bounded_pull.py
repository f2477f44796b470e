"""Fetches one answer from the SuperLink, and stops as soon as it is longer than it may be.

Flower fetches every object that an answer is said to consist of, however many and however large,
and puts them together in memory. Here the list is counted before anything is fetched, and what
arrives is counted while it does.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import cast

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.message_pb2 import Metadata as MetadataProto
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
)
from flwr.supercore.runtime import RuntimeHttpClient

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.prompt_pulls import pull_promptly
from phoenix_secure.federation.engines.wire import ERROR_CODE, max_objects, max_stored_bytes

__all__ = ["Pulling", "failed_reply", "object_ids", "pull_reply"]

_log = logging.getLogger(__name__)
_SUPERLINK = Node(node_id=SUPERLINK_NODE_ID)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulling:
    """One request whose answer is fetched.

    max_bytes   of the answer
    slots       one is taken before content is fetched, and stays taken where an answer is returned
    abandoned   set once nobody waits for it any more
    """

    message_id: str
    run_id: int
    max_bytes: int
    slots: threading.Semaphore
    abandoned: threading.Event


def pull_reply(client: RuntimeHttpClient, request: Pulling) -> Message | None:
    """The answer to ``request``; None while there is none.

    Guarantee:  at most ``wire.max_stored_bytes`` of the limit and one object more are in memory,
                and nothing soon after the request was abandoned. An answer that is longer, or no
                message, or never complete, comes as one that says so.
    Raises:     httpx.HTTPError where the SuperLink is away or refuses us.
    """
    found = client.PullMessages(PullAppMessagesRequest(message_ids=[request.message_id]))
    if not found.messages_list:
        return None
    if not _take_slot(request):
        return None
    try:
        return _fetched(client, found, request)
    except BaseException:
        request.slots.release()
        raise


def _take_slot(request: Pulling) -> bool:
    while not request.slots.acquire(timeout=0.2):
        if request.abandoned.is_set():
            return False
    return True


def _fetched(
    client: RuntimeHttpClient, found: PullAppMessagesResponse, request: Pulling
) -> Message:
    reply_id, tree = found.messages_list[0].metadata.message_id, found.message_object_trees[0]
    code = FailureCode.MALFORMED
    try:
        message = _inflated(_contents(client, tree, request), reply_id, request)
    except _TooLargeError:
        _log.warning("an answer of more than %d bytes was refused", request.max_bytes)
        message = None
    except ObjectPullError:  # its sender went away in the middle
        code, message = FailureCode.UNREACHABLE, None
    client.ConfirmMessageReceived(
        ConfirmMessageReceivedRequest(
            node=_SUPERLINK, run_id=request.run_id, message_object_id=reply_id
        )
    )
    return message or failed_reply(found.messages_list[0].metadata, code=code)


def failed_reply(given: MetadataProto | Metadata, *, code: FailureCode) -> Message:
    """A message that answers the same request as the one with ``given``, with a code."""
    metadata = Metadata(
        run_id=given.run_id,
        message_id="",
        src_node_id=given.src_node_id,
        dst_node_id=given.dst_node_id,
        reply_to_message_id=given.reply_to_message_id,
        group_id=given.group_id,
        created_at=given.created_at,
        ttl=given.ttl,
        message_type=given.message_type,
    )
    return make_message(metadata=metadata, error=Error(code=ERROR_CODE, reason=code.value))


def object_ids(tree: ObjectTree, *, max_bytes: int) -> list[str] | None:
    """The objects of an answer in ``tree``, or None where they are too many for its size."""
    ids: list[str] = []
    for node in iterate_object_tree(tree):
        if len(ids) == max_objects(max_bytes):
            return None
        ids.append(node.object_id)
    return ids


class _TooLargeError(Exception):
    pass


def _contents(client: RuntimeHttpClient, tree: ObjectTree, request: Pulling) -> dict[str, bytes]:
    ids = object_ids(tree, max_bytes=request.max_bytes)
    if ids is None:
        raise _TooLargeError
    fetch = make_pull_object_fn_protobuf(client.PullObject, _SUPERLINK, request.run_id)
    left, lock = max_stored_bytes(request.max_bytes), threading.Lock()

    def counted(object_id: str) -> bytes:
        nonlocal left
        if request.abandoned.is_set():
            raise ObjectPullError(object_id, "nobody waits for it any more")
        content = fetch(object_id)
        with lock:
            left -= len(content)
            if left < 0:
                raise _TooLargeError
        return content

    return pull_promptly(ids, counted)


def _inflated(contents: dict[str, bytes], reply_id: str, request: Pulling) -> Message | None:
    """The message, or None where a site sent objects that make none, or answers another request."""
    try:
        message = cast(Message, inflate_object_from_contents(reply_id, contents))
        message.metadata.__dict__["_message_id"] = reply_id
        answered = message.metadata.reply_to_message_id
    except Exception as error:
        _log.warning("an answer was unreadable (%s)", type(error).__name__)
        return None
    return message if answered == request.message_id else None
