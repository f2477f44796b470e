"""Error feedback: what rounding left out of one answer enters the next one.

::

    round-000012.safetensors    v - round(v) of the answer in round 12, in a folder of the site

Rounding errors then telescope: after any number of rounds the sum of all answers is off by one
rounding, and not by as many as there were rounds. It matters where words are narrow.
Source: Seide et al. (2014), 1-bit SGD, section 2; Karimireddy et al. (2019), arXiv:1901.09847.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import replace_file

__all__ = ["Residuals", "open_residuals"]


class Residuals:
    """The residuals of one site in one run; the newest ``keep`` rounds stay in ``folder``.

    A round that is repeated starts from the residual before it: a resumed run is the same run. An
    answer that a dropout lost takes its rounding with it, and nothing more.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def before(self, round_number: int, *, size: int) -> np.ndarray:
        """The residual (size,) float32 to add in ``round_number``; zeros before the first answer.

        Raises:     CheckpointError for a damaged file.
        """
        earlier = [number for number in self._rounds() if number < round_number]
        if not earlier:
            return np.zeros(size, np.float32)
        path = self._path(earlier[-1])
        try:
            residual: np.ndarray = load(path.read_bytes())["residual"]
            if residual.dtype != np.float32 or residual.shape != (size,):
                raise ValueError("expected a residual of this model")
            if not np.isfinite(residual).all():
                raise ValueError("expected finite values")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path} is damaged: delete it, and one rounding is lost"
            ) from error
        return residual

    def save(self, round_number: int, residual: np.ndarray) -> None:
        """Keep the residual of ``round_number`` in one step, then drop the oldest."""
        content = save({"residual": residual})
        replace_file(self._path(round_number), lambda path: path.write_bytes(content), mode=0o600)
        for number in self._rounds()[: -self._keep]:
            self._path(number).unlink(missing_ok=True)

    def _rounds(self) -> list[int]:
        names = (path.stem.removeprefix("round-") for path in self._folder.glob("round-*.safe*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06d}.safetensors"


def open_residuals(config: RunConfig, folder: Path) -> Residuals | None:
    """The residuals in ``folder``; None without ``exchange.error_feedback``."""
    if not config.exchange.error_feedback:
        return None
    # One more than the server's checkpoints: resume may start from the oldest of those.
    return Residuals(folder, keep=config.output.keep_checkpoints + 1)
