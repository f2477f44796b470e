"""Key files: readable by their owner alone from the first moment on, and refused otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors

__all__ = ["check_private", "make_private_folder", "read_secret", "write_secret"]


def make_private_folder(path: Path) -> None:
    """Make ``path`` with mode 0700 from the first moment on; one that was there is narrowed to it.

    Raises:     StorageError when it cannot be made.
    """
    with storage_errors(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)


def write_secret(path: Path, content: bytes) -> None:
    """Write a new key file with mode 0600 from the first moment on, durable; never over an old one.

    Raises:     StorageError, also when ``path`` exists; a file that could not be filled is removed.
    """
    with storage_errors(path):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def check_private(path: Path) -> None:
    """Refuse a key file that others can read or that is not a plain file of ours.

    Raises:     ConfigError naming the file and the command that fixes it.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise ConfigError(f"key file {path} is missing: restore it or make a new site") from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"key file {path} must be a plain file, not a link or a folder")
    if status.st_uid != os.geteuid():
        raise ConfigError(f"key file {path} belongs to another user: `chown` it to this one")
    if status.st_mode & 0o077:
        raise ConfigError(f"key file {path} can be read by others: run `chmod 600 {path}`")


def read_secret(path: Path, *, size: int | None = None) -> bytes:
    """The content of a key file that passes ``check_private``.

    Raises:     ConfigError for a wrong mode, owner or size; it never shows the content.
    """
    check_private(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"key file {path} cannot be read: change its permissions") from error
    if size is not None and len(content) != size:
        raise ConfigError(f"key file {path} must hold {size} bytes: restore it from a copy")
    return content
