"""What a synthetic image says about its origin."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.files import sha256_of

__all__ = ["Origin", "model_digest"]


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


def model_digest(folder: Path) -> str:
    """SHA-256 over the names and hashes of a model's files, as the ledger's ``exported`` has them.

    Raises:     StorageError or OSError for a file that cannot be read.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return hashlib.sha256(canonical(files)).hexdigest()
