"""One hash for the code that would see a site's images."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import phoenix_secure
import protocol

__all__ = ["installed_code", "tree_digest"]


@functools.cache
def installed_code() -> str:
    """``tree_digest`` of the packages that a site computes with, as they lay on the disk first.

    Taken once per process: what a running worker has imported does not change under it.
    """
    digest = hashlib.sha256()
    for package in (phoenix_secure, protocol):
        root = Path(package.__file__ or "").parent
        digest.update(f"{root.name}\0{tree_digest(root)}\n".encode())
    return digest.hexdigest()


def tree_digest(root: Path) -> str:
    """SHA-256, in hexadecimal, over every Python file below ``root``: its path and its content.

    Guarantee:  the same on every machine, and for wheels and checkouts alike; a file added,
                removed, renamed or changed by one byte gives another.
    """
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
