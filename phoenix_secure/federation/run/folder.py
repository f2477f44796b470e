"""The folder of one run: settings, versions, checkpoints, metrics, pictures, model.

::

    config.yaml      resolved settings          metrics.jsonl   a line for each round
    versions.json    Python, libraries, OS      checkpoints/    server state, the newest few
    split.npz        members / held-out / ref.  samples/        a PNG grid every so many rounds
    partition.png    the data partition         curves.png      loss and quality over rounds
    model/           diffusers pipeline (EMA)   evaluation.json, summary.json
    server/, sites/  keys and the promises of secure rounds, one folder for each party
    roster.bin       who takes part, signed     owner.key.pub   by whom
    extended.json    more rounds than config.yaml has, after `resume --rounds`
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import dump_config, load_written
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.split import Split, load_split
from phoenix_secure.errors import CheckpointError, ConfigError, DataError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from phoenix_secure.federation.run.extension import (
    check_extension,
    extended,
    write_extension,
)
from phoenix_secure.federation.run.metrics_file import read_metrics
from phoenix_secure.files import append_line, storage_errors, write_bytes

__all__ = ["RunFolder", "settings_hash"]

_LOCK = ".lock"

_LIBRARIES = (
    "phoenix-secure",
    "torch",
    "diffusers",
    "flwr",
    "numpy",
    "safetensors",
    "cryptography",
)


class _Held(threading.local):
    """Folders whose lock this thread holds."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()


_HELD = _Held()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and files of the run in ``path``."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def split_file(self) -> Path:
        return self.path / "split.npz"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def server_rounds(self) -> Path:
        """The server's journal of secure rounds."""
        return self.path / "server" / "rounds.jsonl"

    @property
    def server_sums(self) -> Path:
        """The newest sums of secure rounds, with the sites' signatures under what follows."""
        return self.path / "server" / "sums"

    def site_rounds(self, name: str) -> Path:
        """A site's record of promises in secure rounds."""
        return self.path / "sites" / name / "rounds.jsonl"

    def remove_parties(self) -> None:
        """Delete keys and promises of a run that was killed before its first checkpoint."""
        with storage_errors(self.path):
            for name in ("server", "sites"):
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)

    def samples_file(self, round_number: int) -> Path:
        return self.path / "samples" / f"round-{round_number:06d}.png"

    def create(self, config: RunConfig, *, overwrite: bool) -> None:
        """Start a new run here.

        Guarantee:  the folder is locked from before the first byte; whoever goes on in it keeps
                    the lock around this call and the rest of the run.
        Raises:     ConfigError when another process works in the folder, or when it is in use,
                    unless it is a run and ``overwrite``; nothing was changed then.
        """
        with self.lock():
            if self.config_file.exists():
                if not overwrite:
                    self.require_new()
                self._clear()
            # First, because its presence is what makes the folder a run: from here on, whatever
            # happens, `resume` can go on.
            write_bytes(self.config_file, dump_config(config.with_split()).encode())

    def require_new(self) -> None:
        """Refuse a folder that holds a run.

        Raises:     ConfigError.
        """
        if self.config_file.exists():
            raise ConfigError(
                f"{self.path} already holds a run: continue it with `resume {self.path}`, "
                "replace it with --overwrite, or choose another --run-dir"
            )

    def _clear(self) -> None:
        """Delete all but the lock: a file that is held and deleted would lock nobody out.

        The settings go last, so that a process killed in between leaves what is still a run.
        """
        with storage_errors(self.path):
            for path in sorted(self.path.iterdir(), key=lambda path: path == self.config_file):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != _LOCK:
                    path.unlink()

    def write_versions(self) -> None:
        """Keep what the run was made with."""
        self.write_json("versions.json", _versions())

    def load_config(self) -> RunConfig:
        """The settings that the run was started with.

        A private run that names no ``data.split`` is older than the keyed one: it keeps its own.
        One that names no ``secure_aggregation.broadcast`` sent its sites the model, and goes on so.
        """
        if not self.config_file.exists():
            raise CheckpointError(f"{self.path} is not a run folder: config.yaml is missing")
        config = extended(load_written(self.config_file), self.path / "extended.json")
        secure = config.secure_aggregation
        if secure.mode == "on" and secure.broadcast is None:
            sent = secure.model_copy(update={"broadcast": "model"})
            config = config.model_copy(update={"secure_aggregation": sent})
        if config.privacy.unit == "none" or config.data.split is not None:
            return config
        data = config.data.model_copy(update={"split": "stratified"})
        return config.model_copy(update={"data": data})

    def extend(self, rounds: int) -> None:
        """Give the run ``rounds`` rounds in all; whoever calls holds the lock.

        Raises:     ConfigError where that is fewer than it has, or would break its guarantee.
        """
        check_extension(self.load_config(), rounds)
        write_extension(self.path / "extended.json", rounds=rounds)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes and threads out (the system releases it when we are killed).

        Whoever holds the lock may take it again, in the same thread.

        Raises:     ConfigError when another holds it, or for a folder of something else than a run.
        """
        path = self.path.resolve()
        if path in _HELD.paths:
            yield
            return
        self._refuse_foreign()
        with self._acquire():
            _HELD.paths.add(path)
            try:
                yield
            finally:
                _HELD.paths.remove(path)

    def _refuse_foreign(self) -> None:
        """Never as much as a lock in a folder of photos; settings come first in a run."""
        if not self.path.exists():
            return
        with storage_errors(self.path):
            names = {path.name for path in self.path.iterdir() if not _is_leftover(path)}
        if names and self.config_file.name not in names and not self.config_file.exists():
            raise ConfigError(f"{self.path} is not empty and not a run: choose another folder")

    def _acquire(self) -> TextIO:
        file = self.path / _LOCK
        while True:
            with storage_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                handle = file.open("w")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody may have deleted the folder between the two lines above.
                if file.exists() and os.path.samestat(os.fstat(handle.fileno()), file.stat()):
                    return handle
            except BlockingIOError as error:
                handle.close()
                raise ConfigError(
                    f"another process is working in {self.path}: wait for it or stop it"
                ) from error
            handle.close()

    def save_state(self, state: ServerState, *, config: RunConfig) -> None:
        """Keep the state of a finished round."""
        save_checkpoint(
            state,
            self.checkpoints,
            settings_hash=settings_hash(config),
            keep=config.output.keep_checkpoints,
        )

    @property
    def has_state(self) -> bool:
        """Whether there is any checkpoint to go on from."""
        return bool(list_checkpoints(self.checkpoints))

    def remove_leftovers(self) -> None:
        """Delete temporary files that a killed process could not."""
        for path in (*self.path.glob(".*.tmp"), *self.path.glob("*/.*.tmp")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def load_state(self, *, config: RunConfig) -> ServerState:
        """The newest state.

        Raises:     CheckpointError when there is none or it is damaged.
        """
        if not self.has_state:
            raise CheckpointError(f"{self.path} has no checkpoint: start it again with --overwrite")
        _, newest = list_checkpoints(self.checkpoints)[-1]
        return load_checkpoint(newest, settings_hash=settings_hash(config))

    def load_states(self, *, config: RunConfig) -> list[ServerState]:
        """The states of all checkpoints that are kept, oldest first.

        Raises:     CheckpointError when one is damaged or of other settings.
        """
        settings = settings_hash(config)
        files = [file for _, file in list_checkpoints(self.checkpoints)]
        return [load_checkpoint(file, settings_hash=settings) for file in files]

    def check_split(self, split: Split, *, image_set: ImageSet) -> None:
        """Refuse to go on with other images than those of the start, or other parts of them.

        Raises:     DataError naming the difference.
        """
        kept = load_split(self.split_file, image_set=image_set)
        if kept.scheme != split.scheme or not np.array_equal(kept.members, split.members):
            raise DataError(
                f"{self.split_file} names other members than config.yaml leads to: restore "
                "config.yaml, or start a new run"
            )

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        append_line(self.metrics_file, json.dumps(line, sort_keys=True))

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics.jsonl, oldest first (a line cut by a crash is left out).

        Raises:     CheckpointError for a line that is damaged otherwise.
        """
        return read_metrics(self.metrics_file)

    def keep_metrics_until(self, round_number: int) -> None:
        """Drop lines of rounds whose checkpoint was never written."""
        kept = [line for line in self.read_metrics() if line["round_number"] <= round_number]
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept)
        write_bytes(self.metrics_file, text.encode())

    def write_json(self, name: str, content: Any) -> None:
        """Write ``name`` as indented JSON."""
        write_bytes(self.path / name, _json(content))


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _is_leftover(path: Path) -> bool:
    """The lock, or a temporary file of a killed process (see ``files.replace_file``)."""
    return path.name == _LOCK or (path.name.startswith(".") and path.suffix == ".tmp")


def settings_hash(config: RunConfig) -> str:
    """Over what decides the weights; pictures and the server's timeouts do not.

    The split's scheme is in ``split.npz``: ``check_split``. Whether sites compute the model moves
    no weight (but perhaps the last bit of an average). An extended run is the one that was started.
    """
    irrelevant_to_weights: dict[str, Any] = {
        "data": {"split"},
        "output": True,
        "evaluation": True,
        "sampling": True,
        "audit": {"profile"},
        "secure_aggregation": {
            "broadcast",
            "max_attempts",
            "stage_deadline_s",
            "grace_s",
            "training_grace_s",
            "retry_pause_s",
        },
    }
    decisive = config.model_dump(mode="json", exclude=irrelevant_to_weights)
    first = decisive["federation"].pop("first_rounds", None)
    if first is not None:
        decisive["federation"]["rounds"] = first
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return versions | {"python": platform.python_version(), "platform": platform.platform()}
