"""Files that came by a way nobody trusts: read once, without a link, up to a limit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from phoenix_secure.errors import ConfigError
from protocol import RemoteProtocolError
from protocol.encoding import Reader
from protocol.identity import MAX_SIGNATURE_SIZE

__all__ = ["open_carried", "read_carried", "signed_parts"]

_Parsed = TypeVar("_Parsed")

# O_NONBLOCK: a pipe must not make us wait.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_carried(path: Path, *, what: str, max_size: int) -> bytes:
    """The content of the plain file ``path``, of at most ``max_size`` bytes.

    what   the name for messages: "a join request"

    Raises:     ConfigError for a missing file, a link, a folder, a pipe or too many bytes.
    """
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        if path.is_symlink():
            raise _refused(path, what, "is a link: give the file itself") from error
        reason = error.strerror or str(error)
        raise _refused(path, what, f"cannot be read ({reason}): check its path") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _refused(path, what, "is no plain file: give the file itself")
    with os.fdopen(handle, "rb") as file:
        content = file.read(max_size + 1)
    if len(content) > max_size:
        raise _refused(
            path, what, f"is larger than {max_size} bytes: ask its sender for the right file"
        )
    return content


def open_carried(
    path: Path, parse: Callable[[bytes], _Parsed], *, what: str, max_size: int, wrong: str, fix: str
) -> _Parsed:
    """What ``parse`` makes of the content of ``path``.

    wrong, fix   for messages about content that ``parse`` refuses: what it is not, what to do

    Raises:     ConfigError naming the file, what is wrong, and what to do.
    """
    data = read_carried(path, what=what, max_size=max_size)
    try:
        return parse(data)
    except (RemoteProtocolError, ValueError) as error:
        detail = error.detail if isinstance(error, RemoteProtocolError) else str(error)
        raise ConfigError(f"{path} is {wrong} ({detail}): {fix}") from error


def signed_parts(content: bytes, *, peer: str, max_size: int) -> tuple[bytes, bytes]:
    """Body and signature of ``encode([body, signature])``; whose that is the caller checks.

    peer, max_size   the name for messages; of the body

    Raises:     RemoteProtocolError.
    """
    reader = Reader(content, peer=peer)
    body = bytes(reader.view("body", max_size=max_size))
    signature = bytes(reader.view("signature", max_size=MAX_SIGNATURE_SIZE))
    reader.finish()
    return body, signature


def _refused(path: Path, what: str, why: str) -> ConfigError:
    return ConfigError(f"{path}, expected to be {what}, {why}")
