"""A folder that is made whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors
from phoenix_secure.secret_files import make_private_folder

__all__ = ["new_folder"]


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Fill ``folder``, which must not exist yet or be empty, with mode 0700.

    Guarantee:  when filling it fails, nothing is left behind.
    Raises:     ConfigError for a folder in use or a link; StorageError when it cannot be made.
    """
    if folder.is_symlink():
        raise ConfigError(f"{folder} is a link, and keys would lie elsewhere: name the folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: choose another name")
    with storage_errors(folder):
        is_used = folder.exists() and any(folder.iterdir())
    if is_used:
        raise ConfigError(f"{folder} is not empty: choose another folder")
    existed = folder.exists()
    try:
        make_private_folder(folder)
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if existed:
            folder.mkdir(exist_ok=True)
        raise
