"""List the files of a folder: every one is a file to read, passed over by name, or an error."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from phoenix_secure.data.inspection import SYSTEM_FILE, Inspection
from phoenix_secure.errors import DataError

__all__ = ["Listing", "is_system_name", "list_folder"]

# Left behind by operating systems, network drives and archivers; never a class, never an image.
_SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "icon\r"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot"),
        *("@synoresource", "recycler", "lost.dir", "found.000", "picasa.ini", "zbthumbnail.info"),
        # Copies of the pictures around them.
        *("thumbs", "thumbnails", "_thumbs", "_thumbnails"),
        *("~snapshot", "lost+found", "__pycache__", "network trash folder", "temporary items"),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The files and folders below ``root``, sorted, as paths that start with it."""

    root: Path
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    # What ``file_kinds.kind_of`` found, so that no file is opened twice to learn it.
    kinds: dict[Path, str | None] = field(default_factory=dict, repr=False, compare=False)

    def within(self, root: Path) -> Listing:
        """What lies below ``root``, a folder of this listing."""
        return replace(
            self,
            root=root,
            files=tuple(file for file in self.files if root in file.parents),
            folders=tuple(folder for folder in self.folders if root in folder.parents),
        )

    @property
    def children(self) -> tuple[Path, ...]:
        """The folders directly below ``root``."""
        return tuple(folder for folder in self.folders if folder.parent == self.root)


def is_system_name(name: str) -> bool:
    """Whether a file or folder of this name is hidden or the operating system's."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM_NAMES


def list_folder(root: Path, inspection: Inspection) -> Listing:
    """Everything below ``root``, through links too; hidden and system files are passed over.

    Raises:     DataError that names the first link to nothing (with ``each_alone`` it is left out),
                a folder that is reached twice, and a folder that cannot be listed.
    """
    files: list[Path] = []
    folders: list[Path] = []
    broken: list[Path] = []
    seen = {_identity(root): root}

    def visit(folder: Path) -> None:
        for entry in _entries(folder):
            path = folder / entry.name
            if is_system_name(entry.name):
                inspection.pass_over(str(path.relative_to(root)), why=SYSTEM_FILE)
            elif entry.is_symlink() and not _exists(path):
                broken.append(path)
            elif entry.is_dir():
                first = seen.setdefault(_identity(path), path)
                if first is not path:
                    raise DataError(
                        f"{path} leads to the same folder as {first}: its images would count "
                        "twice; remove the link"
                    )
                folders.append(path)
                visit(path)
            elif entry.is_file():
                files.append(path)
            else:
                inspection.pass_over(str(path.relative_to(root)), why="neither file nor folder")

    # Depth first in the order of names, which is the order of paths: nothing is left to sort.
    visit(root)
    if broken and not inspection.rules.each_alone:
        raise DataError(
            f"{broken[0]} is a link to nothing ({len(broken)} such in {root}): "
            "fetch the files behind the links, or remove them"
        )
    for path in broken:
        inspection.leave_out(str(path.relative_to(root)), f"{path} is a link to nothing")
    return Listing(root=root, files=tuple(files), folders=tuple(folders))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list {folder} ({error.strerror}): check permissions") from error


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a link that leads to itself
        return False
