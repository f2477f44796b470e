"""A release's generator as the start of a run: kept in the cache under its hash.

::

    CACHE/models/SHA256/    the generator's folder, as ``release.generator`` writes it

The hash is of ``release.json``, which holds those of the weights.
"""

from __future__ import annotations

from pathlib import Path

import torch

from phoenix_secure.config import StartConfig
from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import default_cache_dir, sha256_of
from phoenix_secure.release.generator import (
    DESCRIPTION,
    FittedGenerator,
    load_generator,
    save_generator,
)

__all__ = ["keep_release", "kept_release"]


def keep_release(path: Path) -> str:
    """Keep the generator in the folder ``path``, and return its SHA-256.

    Raises:     CheckpointError where there is none, or one that is selected from already;
                StorageError.
    """
    if not (path / DESCRIPTION).exists():
        raise CheckpointError(
            f"model.init_from: {path} holds no release's generator, whose images a classifier "
            "selects: give the folder of a run with release.features and release.then=none"
        )
    fitted = load_generator(path, device=torch.device("cpu"))
    if fitted.classifier is not None:
        raise CheckpointError(
            f"model.init_from: a classifier selects the images of {path} already: start from the "
            "release"
        )
    sha256 = sha256_of(path / DESCRIPTION)
    save_generator(fitted, _place(sha256))
    return sha256


def kept_release(start: StartConfig, *, device: torch.device) -> FittedGenerator:
    """The generator of ``keep_release``.

    Raises:     CheckpointError where it is not kept here, or is another.
    """
    path = _place(start.sha256)
    if not (path / DESCRIPTION).exists() or sha256_of(path / DESCRIPTION) != start.sha256:
        raise CheckpointError(
            f"the release {start.sha256[:16]} that the run starts from is not kept on this "
            "machine: start the run again with model.init_from=FOLDER of that release"
        )
    return load_generator(path, device=device)


def _place(sha256: str) -> Path:
    return default_cache_dir() / "models" / sha256
