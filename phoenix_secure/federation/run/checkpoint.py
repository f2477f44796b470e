"""The server's state on disk: one safetensors file a round, written atomically."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.files import write_bytes

__all__ = ["checkpoint_path", "list_checkpoints", "load_checkpoint", "save_checkpoint"]

_VECTORS = ("parameters", "ema", "momentum", "second_moment")
_FAMILY = "phoenix-secure/checkpoint/"
_FORMAT = f"{_FAMILY}v2"


def checkpoint_path(folder: Path, *, round_number: int) -> Path:
    """The file of the state after ``round_number`` rounds."""
    return folder / f"round-{round_number:06d}.safetensors"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(round, file) of every checkpoint in ``folder``, oldest first."""
    found = []
    for path in folder.glob("round-*.safetensors"):
        number = path.stem.removeprefix("round-")
        if number.isdigit():
            found.append((int(number), path))
    return sorted(found)


def save_checkpoint(state: ServerState, folder: Path, *, settings_hash: str, keep: int) -> Path:
    """Write the state, wait for the disk, then drop all but the ``keep`` newest checkpoints."""
    path = checkpoint_path(folder, round_number=state.round_number)
    tensors = {name: getattr(state, name) for name in _VECTORS}
    metadata = {
        "format": _FORMAT,
        "round": str(state.round_number),
        "settings": settings_hash,
        "clip_factor": repr(state.clip_factor),
        "sha256": _digest(tensors, clip_factor=state.clip_factor),
    }
    # Not safetensors' save_file: it hides a full disk behind an error of its own.
    write_bytes(path, save(tensors, metadata=metadata))
    for _, old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path, *, settings_hash: str) -> ServerState:
    """Read and verify a checkpoint.

    Raises:     CheckpointError when it is missing, damaged, or of other settings.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format", "").startswith(_FAMILY) and metadata["format"] != _FORMAT:
                raise CheckpointError(
                    f"checkpoint {path} was written by another version: go on with that one"
                )
            tensors = {name: file.get_tensor(name) for name in _VECTORS}
        factor = float(metadata["clip_factor"])
        state = ServerState(round_number=int(metadata["round"]), clip_factor=factor, **tensors)
        intact = (
            metadata["sha256"] == _digest(tensors, clip_factor=factor)
            and metadata["format"] == _FORMAT
        )
        settings = metadata["settings"]
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}: start the run with `run`") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {_way_out(path)}") from error
    if not intact:
        raise CheckpointError(f"checkpoint {path} is damaged (wrong SHA-256): {_way_out(path)}")
    if settings != settings_hash:
        raise CheckpointError(
            f"checkpoint {path} was written with other settings than the run's config.yaml: "
            "restore config.yaml or start a new run"
        )
    return state


def _way_out(path: Path) -> str:
    earlier = [p for _, p in list_checkpoints(path.parent) if p.name < path.name]
    if earlier:
        return f"delete it and resume continues from {earlier[-1].name}"
    return "there is no earlier one, start the run again with --overwrite"


def _digest(tensors: dict[str, np.ndarray], *, clip_factor: float) -> str:
    digest = hashlib.sha256(f"clip_factor:{clip_factor!r}:".encode())
    for name in _VECTORS:
        digest.update(f"{name}:{tensors[name].size}:".encode())
        digest.update(np.ascontiguousarray(tensors[name], "<f4").data)
    return digest.hexdigest()
