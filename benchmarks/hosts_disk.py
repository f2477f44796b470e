"""A disk of a party's own that is small, and then full."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from hosts_namespaces import quiet
from hosts_parties import Party

__all__ = ["fill", "small_disk"]


@contextlib.contextmanager
def small_disk(party: Party, folder: Path, *, kept: Path, size_mib: int = 16) -> Iterator[None]:
    """Put ``folder`` on a disk of its own as long as the block lasts; ``kept`` is a copy.

    What is written meanwhile is gone afterwards.
    """
    shutil.copytree(folder, kept)
    quiet("mount", "-t", "tmpfs", "-o", f"size={size_mib}M,mode=700", "tmpfs", folder)
    party.give(folder)
    for path in sorted(kept.rglob("*")):
        target = folder / path.relative_to(kept)
        if path.is_dir():
            target.mkdir(mode=0o700)
        else:
            shutil.copy2(path, target)
        party.give(target)
    try:
        yield
    finally:
        quiet("umount", "-l", folder)
        shutil.rmtree(kept)


def fill(folder: Path) -> None:
    """Leave no page free; what is left of the last pages of files is still there."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass
