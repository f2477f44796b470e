"""A request or an answer as one file, for sites that are reached by folders instead of a network.

::

    "PHXF" | u32 length of the header | header (JSON) | body

The header holds kind, site, session, stage, code, and length and SHA-256 of the body, so that a
file cut short on a memory stick is told from a whole one. Nothing in it is a secret; who may be
believed is for the signatures inside the body.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from typing import BinaryIO, Literal

__all__ = ["Envelope", "IncompleteEnvelope", "MalformedEnvelope", "read_envelope"]

_MAGIC = b"PHXF"
_LENGTH = struct.Struct(">I")
_PREFIX = len(_MAGIC) + _LENGTH.size
_MAX_HEADER = 4096


class MalformedEnvelope(ValueError):  # noqa: N818
    """Not a whole envelope; never says what was in it."""


class IncompleteEnvelope(MalformedEnvelope):
    """May become a whole envelope: too short, or with holes, as a copy under way leaves them.

    Some programs write a file from its start, others make it as long as it will be and fill it.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """The content of one file; ``code`` is empty unless the site failed."""

    kind: Literal["request", "reply"]
    site: str
    session: str
    stage: str
    code: str = ""
    body: bytes = b""

    def to_bytes(self) -> bytes:
        fields = {name: value for name, value in asdict(self).items() if name != "body"}
        digest = hashlib.sha256(self.body).hexdigest()
        header = json.dumps(fields | {"size": len(self.body), "sha256": digest}).encode()
        if len(header) > _MAX_HEADER:
            raise ValueError(f"expected a header of at most {_MAX_HEADER} bytes")
        return _MAGIC + _LENGTH.pack(len(header)) + header + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Parse and check.

        Raises:     MalformedEnvelope for anything that ``to_bytes`` does not make.
        """
        size = _header_size(data[:_PREFIX])
        start = _PREFIX + size
        return _read_header(data[_PREFIX:start], size).whole(data[start:])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    """The fields of an envelope before its body was read."""

    fields: dict[str, str]
    size: int
    sha256: str

    def whole(self, body: bytes) -> Envelope:
        """The envelope, if ``body`` is the one that the header announces."""
        if self.size != len(body) or self.sha256 != hashlib.sha256(body).hexdigest():
            whole = MalformedEnvelope if len(body) > self.size else IncompleteEnvelope
            raise whole("expected a whole body")
        return Envelope(**self.fields, body=body)  # type: ignore[arg-type]


def _header_size(prefix: bytes) -> int:
    if prefix.strip(b"\0") == b"" or (len(prefix) < _PREFIX and _begins(prefix)):
        raise IncompleteEnvelope("truncated header")
    if len(prefix) < _PREFIX or not prefix.startswith(_MAGIC):
        raise MalformedEnvelope("expected an envelope of this version")
    (size,) = _LENGTH.unpack_from(prefix, len(_MAGIC))
    if size > _MAX_HEADER:
        raise MalformedEnvelope("truncated header")
    return int(size)


def _begins(prefix: bytes) -> bool:
    return _MAGIC.startswith(prefix[: len(_MAGIC)])


def _read_header(data: bytes, size: int) -> _Header:
    if len(data) != size:
        raise IncompleteEnvelope("truncated header")
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        # JSON has no zero bytes: what has not been copied yet.
        kind = IncompleteEnvelope if b"\0" in data else MalformedEnvelope
        raise kind("expected a JSON header") from None
    texts = ("kind", "site", "session", "stage", "code", "sha256")
    if not isinstance(header, dict) or set(header) != {*texts, "size"}:
        raise MalformedEnvelope("expected exactly the fields of an envelope")
    if not all(isinstance(header[name], str) for name in texts):
        raise MalformedEnvelope("expected text fields")
    if header["kind"] not in ("request", "reply"):
        raise MalformedEnvelope("expected a request or a reply")
    if type(header["size"]) is not int or header["size"] < 0:
        raise MalformedEnvelope("expected the size of the body")
    fields = {name: header[name] for name in texts if name != "sha256"}
    return _Header(fields=fields, size=header["size"], sha256=header["sha256"])


def read_envelope(file: BinaryIO, *, max_bytes: int) -> Envelope:
    """Read what somebody else wrote.

    Guarantee:  what the header announces is held against ``max_bytes`` before the body is
                read, and the body is counted as it is read: holes of a sparse file count like
                content, whatever the file takes on the disk.
    Raises:     MalformedEnvelope for a longer body, or other content.
    """
    size = _header_size(file.read(_PREFIX))
    header = _read_header(file.read(size), size)
    if header.size > max_bytes:
        raise MalformedEnvelope(f"expected a body of at most {max_bytes} bytes")
    # One byte more than announced shows what is longer than it says.
    return header.whole(file.read(header.size + 1))
