"""Bodies of any size come through a Flower message, and no single object is large."""

from __future__ import annotations

import os

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity

from phoenix_secure.federation.deployment.proxy_limits import MAX_BODY_BYTES
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.wire import MESSAGE_TYPE, pack, unpack_reply, unpack_request

PART = 4 << 20


@pytest.fixture(autouse=True)
def identity() -> None:
    """Flower stamps messages with the task of the process."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def message(content: RecordDict) -> Message:
    return Message(content, 2, MESSAGE_TYPE)


@pytest.mark.long
@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART, 3 * PART + 7])
def test_body_comes_through_whole(size: int) -> None:
    body = os.urandom(size)
    content = pack("mask", body)
    assert unpack_request(message(content)) == ("mask", body)
    assert unpack_reply(message(content), stage="mask") == Reply(body=body)
    # What Flower sends in one call each.
    objects = get_all_nested_objects(message(content)).values()
    assert max(len(each.deflate()) for each in objects) < PART + 4096 < MAX_BODY_BYTES


@pytest.mark.parametrize("parts", [0, -1, 1, 3, 1 << 62, True, 2.0, "2", None])
def test_announced_parts_that_are_not_there_are_malformed(parts) -> None:
    content = pack("mask", bytes(PART + 1))
    if parts is None:
        content["phoenix.1"] = ConfigRecord({"bytes": "text"})
    else:
        content["phoenix"] = ConfigRecord({"stage": "mask", "parts": parts})
    with pytest.raises(ValueError, match="expected"):
        unpack_request(message(content))
    malformed = Failure(code=FailureCode.MALFORMED)
    assert unpack_reply(message(content), stage="mask") == malformed


def test_part_that_is_missing_is_malformed() -> None:
    content = pack("mask", bytes(2 * PART + 1))
    content["other"] = content.pop("phoenix.1")
    with pytest.raises(ValueError, match="expected a part"):
        unpack_request(message(content))
