"""TensorBoard: one event file of a process, in the run's own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.tracked_settings import tracked_settings

__all__ = ["TensorBoard"]

_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


class TensorBoard:
    """Scalars, sample grids and hyper-parameters below ``tensorboard/``.

    Raises:     ConfigError where the extra is not installed.
    """

    def __init__(self, config: RunConfig) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "output.tensorboard needs the extra: pip install 'phoenix-secure[tensorboard]'"
            ) from error
        self._settings = tracked_settings(config)
        self._make = SummaryWriter
        self._open: dict[Path, Any] = {}

    def log(self, folder: Path, *, step: int, numbers: Mapping[str, float]) -> None:
        """A scalar for each number."""
        writer = self._writer(folder)
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def show(self, folder: Path, *, step: int, picture: Path) -> None:
        """The file's own bytes: TensorBoard's encoder would drop the mark as synthetic."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(picture) as opened:
            image = Summary.Image(
                width=opened.width,
                height=opened.height,
                colorspace=_CHANNELS.get(opened.mode, 3),
                encoded_image_string=picture.read_bytes(),
            )
        self._add(folder, Summary(value=[Summary.Value(tag="samples", image=image)]), step=step)

    def close(self, folder: Path, *, numbers: Mapping[str, float]) -> None:
        """Settings beside the last figures, for the table of hyper-parameters."""
        from torch.utils.tensorboard.summary import hparams

        told = hparams(dict(self._settings), dict(numbers))  # type: ignore[no-untyped-call]
        for summary in told:
            self._add(folder, summary)
        self._open.pop(folder).close()

    def _add(self, folder: Path, summary: Any, *, step: int | None = None) -> None:
        self._writer(folder).file_writer.add_summary(summary, step)

    def _writer(self, folder: Path) -> Any:
        if folder not in self._open:
            self._open[folder] = self._make(folder / "tensorboard")
        return self._open[folder]
