"""Writing files so that a crash, a full disk or a second process never leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from phoenix_secure.errors import StorageError

__all__ = [
    "append_line",
    "default_cache_dir",
    "replace_file",
    "replace_folder",
    "sha256_of",
    "storage_errors",
    "sync_folder",
    "write_bytes",
]


def default_cache_dir() -> Path:
    """The folder named by PHOENIX_DATA_DIR, else ~/.cache/phoenix-secure."""
    named = os.environ.get("PHOENIX_DATA_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "phoenix-secure"


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` while writing below ``path`` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"disk full while writing {path}: free some space and run again; "
                "what was there before is unchanged"
            ) from error
        raise StorageError(
            f"cannot write {path} ({error.strerror or error}): choose another folder "
            "or change its permissions"
        ) from error


def replace_file(path: Path, write: Callable[[Path], object], *, mode: int = 0o666) -> None:
    """Let ``write`` fill a temporary file, then move it to ``path`` in one step.

    ``mode`` is what the file may be used for at most; the process' umask takes from it. The system
    does so as it makes the file: nobody may do more with the temporary one either, and the umask,
    which all threads share, is neither read nor set.

    Guarantee:  after a crash at any moment ``path`` holds either its old content or all of the
                new one; the temporary file is removed when ``write`` fails.
    Raises:     StorageError for any ``OSError`` on the way.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of the folder ``path`` once it is full.

    Guarantee:  when filling it fails, ``path`` is as it was and the new folder is removed.
    Raises:     StorageError for any ``OSError`` on the way.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        new.mkdir()
        try:
            yield new
            if path.exists():
                shutil.rmtree(path)
            new.replace(path)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Atomically make ``content`` the whole of ``path``; ``mode`` as for ``replace_file``."""
    replace_file(path, lambda temporary: temporary.write_bytes(content), mode=mode)


def append_line(path: Path, line: str) -> None:
    """Append one line and wait until the disk has it."""
    with storage_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a new name in ``folder`` durable (a no-op where folders cannot be opened)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
