"""More rounds for a run than it was started with (``resume --rounds N``).

``config.yaml`` stays as the sites and the evidence know it; ``extended.json`` beside it holds the
new number of rounds. Settings that are loaded with it keep the first number in
``federation.first_rounds``, so that checkpoints of before the extension still belong to them.
"""

from __future__ import annotations

import json
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.files import write_bytes

__all__ = ["check_extension", "extended", "write_extension"]


def extended(config: RunConfig, path: Path) -> RunConfig:
    """``config`` with the rounds that the extension in ``path`` adds, where there is one.

    Raises:     CheckpointError for a damaged file.
    """
    if not path.exists():
        return config
    try:
        rounds = json.loads(path.read_text(encoding="utf-8"))["rounds"]
        if not isinstance(rounds, int) or rounds <= config.federation.rounds:
            raise ValueError("expected more rounds than before")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: delete it, and extend the run again") from error
    return _with_rounds(config, rounds)


def check_extension(config: RunConfig, rounds: int) -> None:
    """Refuse what cannot be extended.

    Raises:     ConfigError naming the setting and what to do in its place.
    """
    before = config.federation.rounds
    if config.release.is_on:
        raise ConfigError("a release is one round: there is nothing to extend it by")
    if config.privacy.unit != "none":
        raise ConfigError(
            f"the noise of this run was made for its {before} rounds, and more would spend more "
            "than its epsilon: start a new run with model.init_from=RUN_DIR, whose guarantee "
            "counts both"
        )
    if rounds <= before:
        raise ConfigError(f"--rounds {rounds}: the run has {before} already; give more")


def write_extension(path: Path, *, rounds: int) -> None:
    """Keep the new number of rounds.

    Raises:     StorageError.
    """
    write_bytes(path, (json.dumps({"rounds": rounds}) + "\n").encode())


def _with_rounds(config: RunConfig, rounds: int) -> RunConfig:
    first = config.federation.first_rounds or config.federation.rounds
    federation = config.federation.model_copy(update={"rounds": rounds, "first_rounds": first})
    return config.model_copy(update={"federation": federation})
