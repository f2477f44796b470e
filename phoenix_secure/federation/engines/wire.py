"""Encodes a stage and its bytes as a Flower message, and decodes them, in both directions.

Flower sends each record of a message as an object of its own. A large body is cut into several, so
that no single request holds a whole model: the Fleet proxy refuses requests above a limit, which
bounds what strangers can make it keep in memory.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, Error, Message, RecordDict

from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply

__all__ = ["ACTION", "MESSAGE_TYPE", "error_message", "pack", "unpack_reply", "unpack_request"]

ACTION = "exchange"
MESSAGE_TYPE = f"query.{ACTION}"
_RECORD = "phoenix"
_PART_BYTES = 4 << 20
# Flower reserves small numbers for its own errors.
_ERROR_CODE = 1001


def pack(stage: str, body: bytes) -> RecordDict:
    """The content of a message."""
    if len(body) <= _PART_BYTES:
        return RecordDict({_RECORD: ConfigRecord({"stage": stage, "body": body})})
    parts = [body[start : start + _PART_BYTES] for start in range(0, len(body), _PART_BYTES)]
    content = RecordDict({_RECORD: ConfigRecord({"stage": stage, "parts": len(parts)})})
    for number, part in enumerate(parts):
        content[_part(number)] = ConfigRecord({"bytes": part})
    return content


def unpack_request(message: Message) -> tuple[str, bytes]:
    """Stage and bytes of a request.

    Raises:     ValueError when the message is not one of ours.
    """
    record = message.content.get(_RECORD)
    if not isinstance(record, ConfigRecord):
        raise ValueError("expected a phoenix record")
    stage = record.get("stage")
    body = _joined(message, record["parts"]) if "parts" in record else record.get("body")
    if not isinstance(stage, str) or not isinstance(body, bytes):
        raise ValueError("expected a stage name and bytes")
    return stage, body


def _part(number: int) -> str:
    return f"{_RECORD}.{number}"


def _joined(message: Message, num_parts: object) -> bytes:
    """The parts of a large body; their number is only believed as far as there are records."""
    if not isinstance(num_parts, int) or num_parts != len(message.content) - 1:
        raise ValueError("expected as many parts as announced")
    parts = []
    for number in range(num_parts):
        record = message.content.get(_part(number))
        part = record.get("bytes") if isinstance(record, ConfigRecord) else None
        if not isinstance(part, bytes):
            raise ValueError("expected a part of the body")
        parts.append(part)
    return b"".join(parts)


def unpack_reply(message: Message, *, stage: str) -> Reply | Failure:
    """The bytes of an answer to ``stage``, or why there are none."""
    if message.has_error():
        codes = {code.value for code in FailureCode}
        if message.error.code == _ERROR_CODE and message.error.reason in codes:
            return Failure(code=FailureCode(message.error.reason))
        # Flower's own errors (a lost node, an app that raised) carry text that is not ours to show.
        return Failure(code=FailureCode.UNREACHABLE)
    try:
        answered, body = unpack_request(message)
    except ValueError:
        return Failure(code=FailureCode.MALFORMED)
    return Reply(body=body) if answered == stage else Failure(code=FailureCode.MALFORMED)


def error_message(code: FailureCode, *, reply_to: Message) -> Message:
    """A reply that holds nothing but a code."""
    return Message(Error(code=_ERROR_CODE, reason=code.value), reply_to=reply_to)
