"""A run of two phases: a release, then DP-SGD from its DDPM, for one epsilon together.

::

    RUN_DIR-release    the first phase, an ordinary run; then.yaml: the settings of both
    RUN_DIR            the second, an ordinary run that starts from the first one's model

The second run's settings hold the first one's privacy events (``model.start``), and its noise is
made for what they left (``privacy.with_start``): its guarantee is that of both.
"""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import dump_config, load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.files import write_bytes

__all__ = ["Left", "first_folder", "keep_both", "kept_both", "left_of_first"]

_BOTH = "then.yaml"


class Left(Enum):
    """What is left to do of a first phase."""

    ALL = auto()
    SOME = auto()
    NOTHING = auto()


def first_folder(run_dir: Path) -> Path:
    """Where the first phase of the run in ``run_dir`` is."""
    return run_dir.with_name(f"{run_dir.name}-release")


def left_of_first(config: RunConfig, run_dir: Path) -> Left:
    """What is left of the first phase of ``config``, before its second one.

    Raises:     ConfigError where its folder holds a run with other settings, or that of the second
                phase any.
    """
    RunFolder(run_dir).require_new()
    folder = RunFolder(first_folder(run_dir))
    if not folder.config_file.exists():
        return Left.ALL
    if folder.load_config() != config.release_phase().with_split():
        raise ConfigError(
            f"{folder.path} holds a release with other settings: replace both runs with "
            "--overwrite, or choose another --run-dir (what it spent is spent all the same)"
        )
    is_done = (folder.path / "summary.json").exists()
    return Left.NOTHING if is_done else Left.SOME


def keep_both(config: RunConfig, run_dir: Path) -> None:
    """Keep the settings of both phases beside the first, once that has a folder."""
    write_bytes(first_folder(run_dir) / _BOTH, dump_config(config).encode())


def kept_both(run_dir: Path) -> RunConfig | None:
    """The settings of both phases, where a run was stopped before its second one began."""
    path = first_folder(run_dir) / _BOTH
    if RunFolder(run_dir).config_file.exists() or not path.exists():
        return None
    return load_config(path, as_written=True)
