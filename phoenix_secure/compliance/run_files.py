"""The files of a run that a report rests on, each read once and named by its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from phoenix_secure.compliance.schema import Evidence
from phoenix_secure.evidence import EvidenceError

__all__ = ["LEDGER", "ROSTERS", "RunFiles"]

LEDGER = "evidence/ledger.jsonl"
ROSTERS = "evidence/rosters.bin"  # where the run went on under another roster
_MAX_JSON_BYTES = 1 << 28


class RunFiles:
    """The run's folder at ``root``: nothing is written, nothing outside it is read.

    ledger_entries   how much of the ledger is looked at; all of it by default

    Raises:     EvidenceError naming the file, whenever one is asked for that cannot be read.
    """

    def __init__(self, root: Path, *, ledger_entries: int | None = None) -> None:
        if not root.is_dir():
            raise EvidenceError(f"{root} is not a folder: name the folder of a run")
        self.root = root
        self.ledger_entries = ledger_entries
        self._hashes: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.root / name).is_file()

    def names(self, pattern: str) -> list[str]:
        """Files that fit the pattern, sorted."""
        found = (path for path in self.root.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def sha256(self, name: str) -> str:
        """Hash of the file's content, in hexadecimal."""
        if name == LEDGER:
            # It may have grown since a report was made: what the report saw of it is hashed.
            lines = self.content(name).split(b"\n")[:-1][: self.ledger_entries]
            return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
        if name not in self._hashes:
            try:
                with (self.root / name).open("rb") as file:
                    self._hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise _unreadable(self.root / name, error) from error
        return self._hashes[name]

    def content(self, name: str) -> bytes:
        """The whole file."""
        path = self.root / name
        try:
            if path.stat().st_size > _MAX_JSON_BYTES:
                raise EvidenceError(f"{path} is too long to be what its name says")
            return path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error

    def document(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return self._object(self.content(name), self.root / name)

    def optional_json(self, name: str) -> dict[str, Any]:
        """The same, or an empty object where there is no such file."""
        return self.document(name) if self.has(name) else {}

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A file of JSON lines; one that a crash cut short is left out."""
        path, content = self.root / name, self.content(name)
        whole = content[: content.rfind(b"\n") + 1]
        return [self._object(line, path) for line in whole.splitlines()]

    def evidence(self, name: str, pointer: str = "") -> Evidence:
        """A reference to the file, or to a place in it."""
        return Evidence(path=name, sha256=self.sha256(name), pointer=pointer)

    @staticmethod
    def _object(content: bytes, path: Path) -> dict[str, Any]:
        try:
            value = json.loads(content.decode("utf-8"), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise EvidenceError(f"{path} is damaged (not JSON): restore it from a copy") from error
        if not isinstance(value, dict):
            raise EvidenceError(f"{path} is damaged (not a JSON object): restore it from a copy")
        return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _unreadable(path: Path, error: OSError) -> EvidenceError:
    return EvidenceError(f"cannot read {path} ({error.strerror or error}): restore it")
