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
import os
import stat
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from phoenix_secure.files import write_bytes

__all__ = ["Envelope", "MalformedEnvelope", "read_envelope", "write_envelope"]

_MAGIC = b"PHXF"
_LENGTH = struct.Struct(">I")
_MAX_HEADER = 4096


class MalformedEnvelope(ValueError):  # noqa: N818
    """Not a whole envelope; never says what was in it."""


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
        start = len(_MAGIC) + _LENGTH.size
        if len(data) < start or not data.startswith(_MAGIC):
            raise MalformedEnvelope("expected an envelope of this version")
        (size,) = _LENGTH.unpack_from(data, len(_MAGIC))
        if size > min(_MAX_HEADER, len(data) - start):
            raise MalformedEnvelope("truncated header")
        body = data[start + size :]
        try:
            header = json.loads(data[start : start + size])
        except (ValueError, RecursionError):
            raise MalformedEnvelope("expected a JSON header") from None
        texts = ("kind", "site", "session", "stage", "code", "sha256")
        if not isinstance(header, dict) or set(header) != {*texts, "size"}:
            raise MalformedEnvelope("expected exactly the fields of an envelope")
        if not all(isinstance(header[name], str) for name in texts):
            raise MalformedEnvelope("expected text fields")
        if header["kind"] not in ("request", "reply"):
            raise MalformedEnvelope("expected a request or a reply")
        if header["size"] != len(body) or header["sha256"] != hashlib.sha256(body).hexdigest():
            raise MalformedEnvelope("expected a whole body")
        fields = {name: header[name] for name in texts if name != "sha256"}
        return cls(**fields, body=body)


def write_envelope(path: Path, envelope: Envelope) -> None:
    """Let ``path`` appear whole, in one step, on the disk.

    Raises:     StorageError when the disk is full or the folder cannot be written.
    """
    write_bytes(path, envelope.to_bytes())


def read_envelope(path: Path, *, max_bytes: int) -> Envelope:
    """Read a file that somebody else wrote.

    Raises:     MalformedEnvelope for links, pipes, more than ``max_bytes``, or other content;
                FileNotFoundError when it is gone.
    """
    # No links, and no waiting for the other end of a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError:
        raise MalformedEnvelope("expected a readable file") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            raise MalformedEnvelope(f"expected a file of at most {max_bytes} bytes")
    except BaseException:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        return Envelope.from_bytes(file.read(max_bytes + 1))
