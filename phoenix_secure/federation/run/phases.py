"""A run of two phases: a release, then DP-SGD from its DDPM, for one epsilon together.

::

    RUN_DIR-release    the first phase, an ordinary run; then.yaml: the settings of both
    RUN_DIR            the second, an ordinary run that starts from the first one's model

The second run's settings hold the first one's privacy events (``model.start``), and its noise is
made for what they left (``privacy.with_start``): its guarantee is that of both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import dump_config, load_written
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.files import write_bytes

__all__ = ["finish_first", "first_folder", "kept_both"]

_BOTH = "then.yaml"


def first_folder(run_dir: Path) -> Path:
    """Where the first phase of the run in ``run_dir`` is."""
    return run_dir.with_name(f"{run_dir.name}-release")


def finish_first(
    config: RunConfig,
    run_dir: Path,
    *,
    overwrite: bool,
    start: Callable[[RunConfig, RunFolder, Callable[[], object]], object],
    resume: Callable[[Path], object],
) -> RunConfig:
    """Run what is left of the first phase of ``config``; the settings of the second.

    start     runs settings in a folder; calls its last argument as soon as the folder is a run's
    resume    goes on with the run in a folder

    Raises:     ConfigError where its folder holds a run with other settings, or that of the second
                phase any; whatever the two calls raise.
    """
    folder = RunFolder(first_folder(run_dir))
    if overwrite or not _is_begun(config, folder, run_dir):
        start(config.release_phase(), folder, partial(_keep_both, config, folder))
    elif not (folder.path / "summary.json").exists():
        _keep_both(config, folder)
        resume(folder.path)
    return config.steps_phase(str(folder.path.resolve()))


def _is_begun(config: RunConfig, folder: RunFolder, run_dir: Path) -> bool:
    RunFolder(run_dir).require_new()
    if not folder.config_file.exists():
        return False
    if folder.load_config() != config.release_phase().with_split():
        raise ConfigError(
            f"{folder.path} holds a release with other settings: replace both runs with "
            "--overwrite, or choose another --run-dir (what it spent is spent all the same)"
        )
    return True


def _keep_both(config: RunConfig, folder: RunFolder) -> None:
    """Keep the settings of both phases beside the first, once that has a folder."""
    write_bytes(folder.path / _BOTH, dump_config(config).encode())


def kept_both(run_dir: Path) -> RunConfig | None:
    """The settings of both phases, where a run was stopped before its second one began."""
    path = first_folder(run_dir) / _BOTH
    if RunFolder(run_dir).config_file.exists() or not path.exists():
        return None
    return load_written(path)
