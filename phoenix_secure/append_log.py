"""A file of JSON lines that only grows: what was promised stays promised after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import storage_errors

__all__ = ["AppendLog"]


class AppendLog:
    """Lines at ``path``, each one JSON object, durable before ``append`` returns.

    A line that a crash cut short was never promised to anybody: it is dropped by the next writer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._number = 0

    def create(self) -> None:
        """Make the empty file, readable by its owner alone.

        Raises:     StorageError when it cannot be made, also when it is there already.
        """
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.fsync(handle)
            os.close(handle)
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process (and file handle) from writing meanwhile."""
        with self._open() as file:
            with storage_errors(self.path):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read_new(self) -> list[dict[str, Any]]:
        """Whole lines that no earlier call has returned, oldest first.

        Raises:     CheckpointError when the file is missing, shorter than it was, or a whole line
                    is not as written.
        """
        with self._open() as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                raise CheckpointError(f"{self.path} became shorter while in use: restore it")
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = [self._parse(text) for text in whole.splitlines()]
        self._offset += len(whole)
        return lines

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{self.path} is missing, and with it what was promised: restore it, or start anew"
            ) from error
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: change its permissions") from error

    def _parse(self, text: bytes) -> dict[str, Any]:
        self._number += 1
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            raise self.damaged()
        return line

    def damaged(self) -> CheckpointError:
        """What to raise for the line that was read last."""
        return CheckpointError(
            f"{self.path} is damaged in line {self._number}: restore it from a copy, or start anew"
        )

    def append(self, line: dict[str, Any]) -> None:
        """Add one line and wait until the disk has it.

        Raises:     StorageError; the line then does not count.
        """
        data = (json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n").encode()
        with storage_errors(self.path), self.path.open("r+b") as file:
            end = _end_of_whole_lines(file)
            file.seek(end)
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _end_of_whole_lines(file: BinaryIO) -> int:
    """Where the last whole line ends, looking backwards."""
    end = file.seek(0, os.SEEK_END)
    step = 4096
    start = end
    while start > 0:
        start = max(0, start - step)
        file.seek(start)
        place = file.read(min(step, end - start)).rfind(b"\n")
        if place >= 0:
            return start + place + 1
    return 0
