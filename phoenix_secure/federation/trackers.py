"""Optional trackers beside metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError

__all__ = ["tensorboard_writer"]


def tensorboard_writer(config: RunConfig) -> Callable[[Path, dict[str, Any]], None]:
    """A function that adds a line of metrics to the run's TensorBoard events, or does nothing.

    Raises:     ConfigError when it is asked for and the extra is not installed.
    """
    if not config.output.tensorboard:
        return lambda folder, line: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "output.tensorboard needs the extra: pip install 'phoenix-secure[tensorboard]'"
        ) from error

    def write(folder: Path, line: dict[str, Any]) -> None:
        with SummaryWriter(folder / "tensorboard") as writer:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "round_number":
                    writer.add_scalar(name, value, line["round_number"])

    return write
