"""A folder in which another party writes: reached by handles, never followed, read up to a bound.

Who owns ``ROOT/SITE`` can put anything there at any moment: a link to another site's folder, a
pipe, a device, a file that is one large hole, a million names. So each use opens the folder anew,
one component after the other from the handle of the one above, and refuses links on the way; what
is done then is done relative to that handle, whatever the path leads to by now.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.federation.engines.envelope import Envelope, MalformedEnvelope, read_envelope

__all__ = ["MessageFolder"]

_SUFFIX = ".msg"
# A stage leaves one message in a folder. More than this and somebody fills it.
_MAX_ENTRIES = 10_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# No links, no waiting for the other end of a pipe, no terminal that becomes ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class MessageFolder:
    """``root/parts[0]/parts[1]/...``; ``root`` is the operator's own and may be a link.

    Every method raises OSError where the folder is missing, a link, or cannot be used, unless it
    says otherwise.
    """

    def __init__(self, root: Path, *parts: str) -> None:
        self._root = root
        self._parts = parts

    def make(self) -> None:
        """Make what is missing of the folder, below a root that is there."""
        with self._opened(make=True):
            pass

    def put(self, name: str, envelope: Envelope) -> None:
        """Let a message appear whole, in one step, on the disk; missing folders are made."""
        temporary = f".{secrets.token_hex(16)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._opened(make=True) as folder:
            handle = os.open(temporary, flags, 0o666, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(envelope.to_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def read(self, name: str, *, max_bytes: int) -> Envelope:
        """A message that somebody else wrote, with a body of at most ``max_bytes``.

        Raises:     FileNotFoundError while it is not there; IncompleteEnvelope while it may be a
                    copy under way; MalformedEnvelope for anything else that is no message: links
                    of both kinds, pipes, devices, folders, what may not be read, what is too long.
        """
        with self._opened() as folder:
            try:
                handle = os.open(name, _FILE, dir_fd=folder)
            except FileNotFoundError:
                raise
            except OSError:
                raise MalformedEnvelope("expected a readable file") from None
        try:
            status = os.fstat(handle)
            # A second name may lie in another site's folder.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise MalformedEnvelope("expected a file with one name")
            with os.fdopen(handle, "rb", closefd=False) as file:
                return read_envelope(file, max_bytes=max_bytes)
        except OSError:
            raise MalformedEnvelope("expected a readable file") from None
        finally:
            os.close(handle)

    def names(self) -> list[str]:
        """Names of the messages there, sorted; of a crowded folder, some of them."""
        with self._opened() as folder, os.scandir(folder) as entries:
            found = [entry.name for entry in itertools.islice(entries, _MAX_ENTRIES)]
        return sorted(name for name in found if name.endswith(_SUFFIX))

    def remove(self, name: str) -> None:
        """Remove a message; nothing happens where it is gone, or cannot be removed."""
        with contextlib.suppress(OSError), self._opened() as folder:
            os.unlink(name, dir_fd=folder)

    def clear(self) -> None:
        """Remove the messages there as far as they can be; of a crowded folder, some of them."""
        with contextlib.suppress(OSError), self._opened() as folder:
            for name in self.names():
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        """A handle of the folder, closed at the end."""
        handle = os.open(self._root, _FOLDER)
        try:
            for part in self._parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=handle)
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)
