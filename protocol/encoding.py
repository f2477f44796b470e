"""The canonical encoding under every hash and signature: length-prefixed fields in fixed order.

A field is a big-endian u32 length followed by that many bytes. An encoding is a sequence of
fields; a list is one field whose content is again a sequence of fields. One value has exactly one
encoding, so equal hashes mean equal values. The reader checks each length against what is left
and against the caller's limit *before* it touches the bytes, and refuses leftovers.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

from protocol.errors import Misbehaviour, RemoteProtocolError

__all__ = [
    "MAX_ID_LENGTH",
    "Reader",
    "encode",
    "encode_float",
    "encode_text",
    "encode_uint",
    "encoded_parts",
    "is_id",
]

MAX_ID_LENGTH = 64

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LENGTH = struct.Struct(">I")
_UINT = struct.Struct(">Q")
_FLOAT = struct.Struct(">d")

_T = TypeVar("_T")


def is_id(text: object) -> bool:
    """Whether ``text`` may name a site: 1-64 ASCII letters, digits, ``.``, ``_``, ``-``."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def encode(fields: Iterable[bytes | memoryview | list[bytes | memoryview]]) -> bytes:
    """The canonical encoding of a sequence of fields; a list is one field in parts, copied once.

    >>> encode([b"a", b""]).hex()
    '000000016100000000'
    """
    return b"".join(encoded_parts(fields))


def encoded_parts(
    fields: Iterable[bytes | memoryview | list[bytes | memoryview]],
) -> list[bytes | memoryview]:
    """What ``encode`` joins: a large field is in it as it came."""
    parts: list[bytes | memoryview] = []
    for field in fields:
        whole = field if isinstance(field, list) else [field]
        size = sum(map(len, whole))
        if size > 0xFFFFFFFF:
            raise ValueError("expected fields below 4 GiB: send fewer words per round")
        parts.append(_LENGTH.pack(size))
        parts += whole
    return parts


def encode_uint(value: int) -> bytes:
    """An integer in [0, 2^64) as 8 big-endian bytes."""
    if not 0 <= value < 1 << 64:
        raise ValueError("expected an integer in [0, 2**64)")
    return _UINT.pack(value)


def encode_float(value: float) -> bytes:
    """A finite float64 as 8 big-endian IEEE 754 bytes; minus zero becomes zero."""
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return _FLOAT.pack(value + 0.0)


def encode_text(value: str) -> bytes:
    """An identifier (see ``is_id``) as ASCII."""
    if not is_id(value):
        raise ValueError("expected an id of 1-64 ASCII letters, digits, '.', '_' or '-'")
    return value.encode("ascii")


class Reader:
    """Takes fields one after another from bytes that ``peer`` sent.

    Guarantee:  allocates nothing larger than what is asked for; linear time; every fault is a
                ``RemoteProtocolError(peer, MALFORMED)`` that names the field and not its content.
    """

    __slots__ = ("_data", "_peer", "_position")

    def __init__(self, data: bytes | memoryview, *, peer: str) -> None:
        self._data = memoryview(data).cast("B")
        self._peer = peer
        self._position = 0

    def view(self, name: str, *, max_size: int, min_size: int = 0) -> memoryview:
        """The next field without a copy, of ``min_size`` to ``max_size`` bytes."""
        left = len(self._data) - self._position
        if left < _LENGTH.size:
            raise self.error(f"{name}: truncated")
        (size,) = _LENGTH.unpack_from(self._data, self._position)
        if size > left - _LENGTH.size:
            raise self.error(f"{name}: truncated")
        if not min_size <= size <= max_size:
            raise self.error(f"{name}: wrong length")
        start = self._position + _LENGTH.size
        self._position = start + size
        return self._data[start : self._position]

    def exact(self, name: str, *, size: int) -> bytes:
        """The next field as bytes of exactly ``size``."""
        return bytes(self.view(name, min_size=size, max_size=size))

    def uint(self, name: str, *, max_value: int = (1 << 64) - 1) -> int:
        """The next field as an integer in [0, ``max_value``]."""
        (value,) = _UINT.unpack(self.view(name, min_size=8, max_size=8))
        if value > max_value:
            raise self.error(f"{name}: too large")
        return int(value)

    def real(self, name: str) -> float:
        """The next field as a finite float64 in its one canonical form."""
        field = self.view(name, min_size=8, max_size=8)
        (value,) = _FLOAT.unpack(field)
        if not math.isfinite(value) or _FLOAT.pack(value + 0.0) != field:
            raise self.error(f"{name}: not a canonical finite number")
        return float(value)

    def text(self, name: str) -> str:
        """The next field as an identifier."""
        raw = bytes(self.view(name, min_size=1, max_size=MAX_ID_LENGTH))
        text = raw.decode("ascii", errors="replace")
        if not is_id(text):
            raise self.error(f"{name}: not an id")
        return text

    def items(
        self, name: str, read: Callable[[Reader], _T], *, max_items: int, max_size: int
    ) -> list[_T]:
        """The next field as a list whose items ``read`` takes one by one, at most ``max_items``."""
        inner = Reader(self.view(name, max_size=max_size), peer=self._peer)
        found: list[_T] = []
        while inner._position < len(inner._data):
            if len(found) == max_items:
                raise self.error(f"{name}: too many items")
            found.append(read(inner))
        return found

    @property
    def is_done(self) -> bool:
        """Whether every field was taken."""
        return self._position == len(self._data)

    def finish(self) -> None:
        """Refuse bytes after the last field."""
        if not self.is_done:
            raise self.error("bytes after the last field")

    def error(self, detail: str) -> RemoteProtocolError:
        """The refusal of what this reader reads."""
        return RemoteProtocolError(self._peer, Misbehaviour.MALFORMED, detail)
