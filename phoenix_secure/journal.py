"""A file of lines that only grows: what was promised stays promised after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, get_type_hints

from phoenix_secure.errors import CheckpointError, PhoenixError
from phoenix_secure.files import storage_errors, sync_folder

__all__ = ["Journal", "create_file", "json_line", "json_object", "kind_codec"]

T = TypeVar("T")


def create_file(path: Path, *, mode: int = 0o600) -> None:
    """Make a journal's empty file, by default readable by its owner alone.

    Raises:     StorageError when it cannot be made, also when it is there already.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        os.fsync(handle)
        os.close(handle)
        sync_folder(path.parent)


class Journal(Generic[T]):
    """Records at ``path``, one line each, durable before ``append`` returns.

    codec    two functions: a record as a line without its end, and back. The second raises
             KeyError, TypeError, ValueError, OverflowError or RecursionError for what is no record
    check    raises ValueError for a record that does not follow from those before it
    follow   told of every record that counts from now on, read or appended

    A line that a crash cut short was never promised to anybody: readers leave it out, and the next
    ``append`` drops it. A subclass may give its errors other words.
    """

    def __init__(
        self,
        path: Path,
        codec: tuple[Callable[[T], bytes], Callable[[bytes], T]],
        *,
        check: Callable[[T], object] = lambda record: None,
        follow: Callable[[T], object] = lambda record: None,
    ) -> None:
        self.path = path
        self.num_records = 0  # read or appended so far
        self.torn_bytes = 0  # behind the last whole line, when it was last read
        self._encode, self._decode = codec
        self._check = check
        self._follow = follow
        self._offset = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other thread, process and file handle from writing meanwhile."""
        with self._lock, self._open() as file:
            with storage_errors(self.path):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def caught_up(self) -> Iterator[None]:
        """``locked``, with nothing left to read."""
        with self.locked():
            self.read_new()
            yield

    def read_new(self) -> list[T]:
        """Records that were neither read nor appended before, oldest first.

        Raises:     ``unreadable`` when the file is missing, ``changed`` when it is shorter than it
                    was, ``damaged`` for a whole line that is not as written, at each call again.
        """
        with self._open() as file:
            self._check_length(file)
            file.seek(self._offset)
            *lines, torn = file.read().split(b"\n")
        self.torn_bytes = len(torn)
        records = []
        for line in lines:
            try:
                record = self._decode(line)
                self._check(record)
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise self.damaged(error) from error
            self._count(record, len(line) + 1)
            records.append(record)
        return records

    def append(self, record: T) -> None:
        """Add a record and wait until the disk has it; only then may its effect happen.

        Call it inside ``caught_up``, or inside ``locked`` where nobody else may have written.

        Raises:     StorageError; ``changed`` when somebody else wrote since. The record then does
                    not count.
        """
        line = self._encode(record) + b"\n"
        with storage_errors(self.path), self.path.open("r+b") as file:
            self._check_length(file)
            file.seek(self._offset)
            if b"\n" in file.read():
                raise self.changed("was written by another process: stop one of them")
            file.seek(self._offset)
            file.truncate()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            if self._offset == 0:
                sync_folder(self.path.parent)
        self._count(record, len(line))

    def damaged(self, problem: object) -> PhoenixError:
        """The error for the first line that does not count yet."""
        return CheckpointError(
            f"{self.path} is damaged in line {self.num_records + 1}: restore it from a copy, "
            "or start again"
        )

    def changed(self, how: str) -> PhoenixError:
        """The error for a file that changed since this object wrote it."""
        return CheckpointError(f"{self.path} {how}")

    def unreadable(self, error: OSError) -> PhoenixError:
        """The error for a file that cannot be opened."""
        if isinstance(error, FileNotFoundError):
            return CheckpointError(
                f"{self.path} is missing, and with it what was promised: restore it, or start again"
            )
        return CheckpointError(f"cannot read {self.path}: change its permissions")

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise self.unreadable(error) from error

    def _check_length(self, file: BinaryIO) -> None:
        if file.seek(0, os.SEEK_END) < self._offset:
            raise self.changed("became shorter while in use: restore it")

    def _count(self, record: T, num_bytes: int) -> None:
        self._follow(record)
        self._offset += num_bytes
        self.num_records += 1


def json_line(value: dict[str, Any]) -> bytes:
    """A JSON object on one line: keys sorted, bytes in hexadecimal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=bytes.hex).encode()


def json_object(line: bytes) -> dict[str, Any]:
    """The JSON object in ``line``.

    Raises:     ValueError or RecursionError.
    """
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


# How a field of each type is read from JSON.
_READ: dict[Any, Callable[[Any], Any]] = {
    int: int,
    str: str,
    bytes: bytes.fromhex,
    tuple[str, ...]: tuple,
}


def kind_codec(
    kinds: Mapping[str, type[Any]],
) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """A journal's codec for dataclasses: a field is a key, and ``kind`` tells the classes apart.

    Keys that a class does not know are passed over.
    """
    names = {record: kind for kind, record in kinds.items()}
    hints = {record: get_type_hints(record) for record in names}

    def encode(record: Any) -> bytes:
        return json_line({"kind": names[type(record)], **asdict(record)})

    def decode(line: bytes) -> Any:
        values = json_object(line)
        record = kinds[values["kind"]]
        return record(**{name: _READ[hint](values[name]) for name, hint in hints[record].items()})

    return encode, decode
