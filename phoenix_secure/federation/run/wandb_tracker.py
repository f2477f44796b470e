"""Weights & Biases, offline: files in the run's own folder, which only a person uploads."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.tracked_settings import tracked_settings
from phoenix_secure.files import write_bytes

__all__ = ["WandbOffline"]

_PROJECT = "phoenix-secure"


class WandbOffline:
    """Settings, figures and sample grids below ``wandb/``; ``wandb sync`` uploads them.

    Guarantee:  no network call, whatever the environment asks for; nothing about the machine,
                its user, the command line or the checkout is recorded.
    Raises:     ConfigError where the extra is not installed.
    """

    def __init__(self, config: RunConfig) -> None:
        # Offline runs, too, send telemetry unless this is set when wandb is imported.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "output.wandb needs the extra: pip install 'phoenix-secure[wandb]'"
            ) from error
        self._wandb = wandb
        self._settings = tracked_settings(config)
        self._open: dict[Path, Any] = {}

    def log(self, folder: Path, *, step: int, numbers: Mapping[str, float]) -> None:
        """A point of each number."""
        self._run(folder).log(dict(numbers), step=step)

    def show(self, folder: Path, *, step: int, picture: Path) -> None:
        """A copy of the file: what wandb draws itself would have lost the mark as synthetic."""
        self._run(folder).log({"samples": self._wandb.Image(str(picture))}, step=step)

    def close(self, folder: Path, *, numbers: Mapping[str, float]) -> None:
        """Write the last figures; a resumed run goes on under the same id."""
        run = self._open.pop(folder)
        run.summary.update(dict(numbers))
        run.finish()

    def _run(self, folder: Path) -> Any:
        if folder not in self._open:
            self._open[folder] = self._wandb.init(
                project=_PROJECT,
                id=_id_of(folder),
                name=folder.name,
                config=dict(self._settings),
                settings=self._wandb.Settings(
                    mode="offline",
                    root_dir=str(folder),
                    reinit="create_new",
                    console="off",
                    silent=True,
                    symlink=False,
                    disable_code=True,
                    disable_git=True,
                    disable_job_creation=True,
                    host="",
                    username="",
                    program="",
                    x_disable_machine_info=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                    x_save_requirements=False,
                ),
            )
        return self._open[folder]


def _id_of(folder: Path) -> str:
    """The id of a run folder at Weights & Biases: all its processes write under one."""
    file = folder / "wandb.json"
    if not file.exists():
        write_bytes(file, json.dumps({"run_id": secrets.token_hex(4)}).encode())
    return str(json.loads(file.read_text(encoding="utf-8"))["run_id"])
