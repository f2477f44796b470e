"""What a synthetic image says about its origin."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.files import sha256_of

__all__ = ["Origin", "file_hashes", "model_digest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The model behind an image; empty where it is not known.

    model       ``model_digest`` of the exported model
    run         id of the ledger of the run that trained it
    guarantee   differential privacy of the training in one line, with its unit
    """

    model: str = ""
    run: str = ""
    guarantee: str = ""

    def to_dict(self) -> dict[str, str]:
        """What is known, by name."""
        return {name: value for name, value in asdict(self).items() if value}


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model's folder, by its path below it, in order.

    Raises:     OSError for a file that cannot be read.
    """
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def model_digest(folder: Path) -> str:
    """SHA-256 over the names and hashes of a model's files, as the ledger's ``exported`` has them.

    Raises:     as ``file_hashes``.
    """
    return hashlib.sha256(canonical(file_hashes(folder))).hexdigest()
