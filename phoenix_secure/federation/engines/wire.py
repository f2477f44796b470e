"""Encodes a stage and its bytes as a Flower message, and decodes them, in both directions.

Flower sends each record of a message as an object of its own. A large body is cut into several, so
that no single request holds a whole model: the Fleet proxy refuses requests above a limit, which
bounds what strangers can make it keep in memory.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, Error, Message, RecordDict

from phoenix_secure.federation.engines.exchange import (
    SMALL_REPLY_BYTES,
    Failure,
    FailureCode,
    Reply,
)

__all__ = [
    "ACTION",
    "ERROR_CODE",
    "MESSAGE_TYPE",
    "PART_BYTES",
    "attach_body",
    "detach_body",
    "error_message",
    "group_of",
    "max_objects",
    "max_stored_bytes",
    "pack",
    "read_group",
    "unpack_reply",
    "unpack_request",
]

ACTION = "exchange"
MESSAGE_TYPE = f"query.{ACTION}"
_RECORD = "phoenix"
# A body of more bytes travels in parts of this size.
PART_BYTES = 4 << 20
# Flower reserves small numbers for its own errors.
ERROR_CODE = 1001
# Names, ids and lengths around a part: what ``pack`` adds to each object, with room to spare.
_OBJECT_OVERHEAD = 4096
# The message, its list of records, and the record that names the stage.
_FRAME_OBJECTS = 3
_LIMIT_DIGITS = 18


def pack(stage: str, body: bytes, *, part_bytes: int = PART_BYTES) -> RecordDict:
    """The content of a message; a body of more than ``part_bytes`` is cut."""
    if len(body) <= part_bytes:
        return RecordDict({_RECORD: ConfigRecord({"stage": stage, "body": body})})
    parts = [body[start : start + part_bytes] for start in range(0, len(body), part_bytes)]
    content = RecordDict({_RECORD: ConfigRecord({"stage": stage, "parts": len(parts)})})
    for number, part in enumerate(parts):
        content[_part(number)] = ConfigRecord({"bytes": part})
    return content


def detach_body(content: RecordDict) -> bytes | None:
    """Take the body of a message that is not cut out of it."""
    record = content.get(_RECORD)
    if not isinstance(record, ConfigRecord) or not isinstance(record.get("body"), bytes):
        return None
    return _bytes(record.pop("body"))


def attach_body(content: RecordDict, body: bytes) -> None:
    """Undo ``detach_body``."""
    record = content[_RECORD]
    if not isinstance(record, ConfigRecord):
        raise AssertionError("expected the record that the body was in")
    record["body"] = body


def group_of(session: str, *, max_reply_bytes: int) -> str:
    """Flower's group id of a request: what it is about, and how long its answer may be.

    The limit travels with the request so that whoever stores the answer on its way can hold the
    site to it.
    """
    return f"{max_reply_bytes}/{session}"


def read_group(group_id: str) -> tuple[str, int]:
    """Session and limit of a request; one that states no limit has that of small answers."""
    limit, separator, session = group_id.partition("/")
    if separator and limit.isascii() and limit.isdecimal() and len(limit) <= _LIMIT_DIGITS:
        return session, int(limit)
    return group_id, SMALL_REPLY_BYTES


def max_objects(max_reply_bytes: int) -> int:
    """Objects that an answer of that many bytes travels in at most."""
    return _FRAME_OBJECTS + -(-max_reply_bytes // PART_BYTES)


def max_stored_bytes(max_reply_bytes: int) -> int:
    """Bytes of all these objects together."""
    return max_reply_bytes + _OBJECT_OVERHEAD * max_objects(max_reply_bytes)


def unpack_request(message: Message, *, max_bytes: int | None = None) -> tuple[str, bytes]:
    """Stage and bytes of a request, or of an answer of at most ``max_bytes``.

    Raises:     ValueError when the message is not one of ours, or too long.
    """
    record = message.content.get(_RECORD)
    if not isinstance(record, ConfigRecord):
        raise ValueError("expected a phoenix record")
    stage = record.get("stage")
    if "parts" not in record:
        parts = [_bytes(record.get("body"))]
    else:
        parts = _parts(message, record["parts"])
    if not isinstance(stage, str):
        raise ValueError("expected the name of a stage")
    # Counted before they are joined: records may share one part, which costs a sender nothing.
    if max_bytes is not None and sum(map(len, parts)) > max_bytes:
        raise ValueError(f"expected a body of at most {max_bytes} bytes")
    return stage, parts[0] if len(parts) == 1 else b"".join(parts)


def _part(number: int) -> str:
    return f"{_RECORD}.{number}"


def _parts(message: Message, num_parts: object) -> list[bytes]:
    """The parts of a large body; their number is only believed as far as there are records."""
    if not isinstance(num_parts, int) or num_parts != len(message.content) - 1:
        raise ValueError("expected as many parts as announced")
    parts = []
    for number in range(num_parts):
        record = message.content.get(_part(number))
        parts.append(_bytes(record.get("bytes") if isinstance(record, ConfigRecord) else None))
    return parts


def _bytes(part: object) -> bytes:
    if not isinstance(part, bytes):
        raise ValueError("expected a part of the body")
    return part


def unpack_reply(message: Message, *, stage: str, max_bytes: int | None = None) -> Reply | Failure:
    """The bytes of an answer to ``stage``, at most ``max_bytes``, or why there are none."""
    if message.has_error():
        codes = {code.value for code in FailureCode}
        if message.error.code == ERROR_CODE and message.error.reason in codes:
            return Failure(code=FailureCode(message.error.reason))
        # Flower's own errors (a lost node, an app that raised) carry text that is not ours to show.
        return Failure(code=FailureCode.UNREACHABLE)
    try:
        answered, body = unpack_request(message, max_bytes=max_bytes)
    except ValueError:
        return Failure(code=FailureCode.MALFORMED)
    return Reply(body=body) if answered == stage else Failure(code=FailureCode.MALFORMED)


def error_message(code: FailureCode, *, reply_to: Message) -> Message:
    """A reply that holds nothing but a code."""
    return Message(Error(code=ERROR_CODE, reason=code.value), reply_to=reply_to)
