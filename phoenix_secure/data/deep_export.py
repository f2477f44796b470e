"""Grey images of a run with a window, written out again in the values that they stand for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.scale import Window

__all__ = ["SCALE_FILE", "DeepScale"]

SCALE_FILE = "scale.json"
_MAX = 65535


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepScale:
    """How 16-bit pixels stand for values: value = slope * pixel + intercept, as in DICOM.

    window   the values that are black and white
    """

    window: Window
    slope: float
    intercept: float

    @classmethod
    def of(cls, window: Window) -> DeepScale:
        """Pixels are the values themselves where those fit into 16 bits, else counted from the
        lower end; a window of few values (floats, say) gets all 65,536 levels."""
        low, high = window
        if high - low < 255 or high - low > _MAX:
            return cls(window=window, slope=(high - low) / _MAX, intercept=low)
        fits = low >= 0 and high <= _MAX
        return cls(window=window, slope=1.0, intercept=0.0 if fits else low)

    @classmethod
    def beside(cls, pictures: Path) -> DeepScale | None:
        """The scale that an export wrote into the folder ``pictures``; None without one."""
        try:
            said = json.loads((pictures / SCALE_FILE).read_text(encoding="utf-8"))
            low, high = said["window"]
            found = cls(
                window=(float(low), float(high)),
                slope=float(said["slope"]),
                intercept=float(said["intercept"]),
            )
            return found if found.to_dict() == said else None
        except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
            return None  # somebody else's file of this name

    @property
    def pixel_window(self) -> Window:
        """The window in pixels: ``data.window`` for whoever reads the files again."""
        low, high = self.window
        return (low - self.intercept) / self.slope, (high - self.intercept) / self.slope

    def pixels(self, images: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
        """Images (N, 1, H, W) in [-1, 1] as 16-bit pixels (N, 1, H, W): the window inverted.

        What lies outside of [-1, 1] is clipped to the window, as it was before training.
        """
        low, high = self.pixel_window
        unit = (np.clip(images.astype(np.float64), -1, 1) + 1) / 2
        return np.clip(np.rint(low + unit * (high - low)), 0, _MAX).astype(np.uint16)

    def to_dict(self) -> dict[str, object]:
        """For the file beside the pictures."""
        return {
            "slope": self.slope,
            "intercept": self.intercept,
            "window": list(self.window),
            "data_window": list(self.pixel_window),
        }
