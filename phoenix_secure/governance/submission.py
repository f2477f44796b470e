"""A PySyft job as it lies in the inbox, read once: what is shown, hashed and signed is one copy.

The submitter can write to the inbox at any time, so nothing is read twice, no link is followed,
and sizes are checked before anything is read.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.plan import MAX_PLAN_BYTES
from protocol.encoding import encode

__all__ = ["Submission"]

_LABEL = b"phoenix-secure/syft-submission/v1"
_MAX_FILES = 16
_MAX_DEPTH = 3
_CODE = "code/"


@dataclass(frozen=True, slots=True)
class Submission:
    """Every file of one job: its path below the job's folder, with ``/``, and its content."""

    files: dict[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Read the job in ``folder``.

        Raises:     ConfigError for links, devices, too many or too large files, and folders that
                    are gone or cannot be read.
        """
        files: dict[str, bytes] = {}
        try:
            if folder.is_symlink():
                raise ConfigError("the job is a link")
            for path, name in _walk(folder, depth=0):
                if len(files) == _MAX_FILES:
                    raise ConfigError(f"the job has more than {_MAX_FILES} files")
                files[name] = _read_plain_file(path, name)
        except OSError as error:
            raise ConfigError(f"the job cannot be read ({error.strerror})") from error
        if not files:
            raise ConfigError("the job is empty")
        return cls(files)

    @property
    def code(self) -> dict[str, bytes]:
        """The files below ``code``, under their names there."""
        return {
            name.removeprefix(_CODE): content
            for name, content in self.files.items()
            if name.startswith(_CODE)
        }

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents of all files, in hexadecimal.

        >>> Submission({"a": b"bc"}).digest == Submission({"ab": b"c"}).digest
        False
        """
        fields = [_LABEL]
        for name in sorted(self.files):
            fields += [os.fsencode(name), self.files[name]]
        return hashlib.sha256(encode(fields)).hexdigest()


def _walk(folder: Path, *, depth: int, prefix: str = "") -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as entries:
        # One more than may be: a folder of a million files is refused without listing it.
        few = itertools.islice(entries, _MAX_FILES + 1)
        for entry in sorted(few, key=lambda entry: entry.name):
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if depth == _MAX_DEPTH:
                    raise ConfigError("the job's folders are nested too deep")
                yield from _walk(Path(entry.path), depth=depth + 1, prefix=f"{name}/")
            else:
                yield Path(entry.path), name


def _read_plain_file(path: Path, name: str) -> bytes:
    # O_NONBLOCK: a pipe in the inbox must not make the site wait.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{name!r} is no plain file")
        if status.st_size > MAX_PLAN_BYTES:
            raise ConfigError(f"{name!r} is larger than {MAX_PLAN_BYTES} bytes")
        content = file.read(MAX_PLAN_BYTES + 1)
    if len(content) > MAX_PLAN_BYTES:
        raise ConfigError(f"{name!r} is larger than {MAX_PLAN_BYTES} bytes")
    return content
