"""One image as a medical file stores it, and its way to bytes: by a window, or as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.scale import Window, apply_window, shown_window
from phoenix_secure.errors import DataError

__all__ = ["FileWindow", "StoredImage", "require_finite", "stored_bytes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileWindow:
    """The window that a file itself brings: from ``low`` to ``high``, or a sigmoid around their
    middle, or ``lut``: the bytes (H, W) that a table of the file makes."""

    low: float = 0.0
    high: float = 0.0
    is_sigmoid: bool = False
    lut: npt.NDArray[np.uint8] | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """One image before any window.

    Shape:      values (H, W), or (H, W, 3) in colour; padding (H, W) bool: pixels that are none.
    Units:      values in what the file rescales to, such as Hounsfield units; spacing_mm between
                the middles of neighbouring pixels, down and across.
    """

    values: npt.NDArray[Any] = field(repr=False)
    bits: int
    is_bytes: bool  # 0..255 without any rescaling: a window is not needed
    is_inverted: bool = False  # the lowest value is white
    window: FileWindow | None = None
    spacing_mm: tuple[float, float] | None = None
    padding: npt.NDArray[np.bool_] | None = field(default=None, repr=False)

    @property
    def counted(self) -> npt.NDArray[Any]:
        """The values that a percentile counts."""
        return self.values if self.padding is None else self.values[~self.padding]


def stored_bytes(image: StoredImage, *, window: Window | None, name: str) -> npt.NDArray[np.uint8]:
    """The image as (H, W) or (H, W, 3) uint8: by ``window``, else by the file's own, else as is.

    Raises:     DataError for values that are not finite, deeper ones without any window, and a
                window that reaches beyond 0..255 where an image holds bytes.
    """
    require_finite(image.values, name=name)
    own = image.window
    if window is not None:
        if image.is_bytes and (window[0] < 0 or window[1] > 255):
            raise DataError(
                f"{name} has 8 bits per channel, where data.window {shown_window(window)} is for "
                "more: read pictures of one depth at a time"
            )
        found = apply_window(image.values, window)
    elif own is not None:
        found = _by_own_window(image.values, own)
    elif image.is_bytes:
        found = image.values.astype(np.uint8)
    else:
        raise DataError(
            f"{name} has values of {image.bits} bits or of another unit, and no window of its own: "
            "set data.window to the two values that become black and white"
        )
    return 255 - found if image.is_inverted else found


def require_finite(values: npt.NDArray[Any], *, name: str) -> npt.NDArray[Any]:
    """``values``, all finite.

    Raises:     DataError.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinity: repair or remove it")
    return values


def _by_own_window(values: npt.NDArray[Any], window: FileWindow) -> npt.NDArray[np.uint8]:
    if window.lut is not None:
        return window.lut
    low, high = window.low, window.high
    if window.is_sigmoid:
        # PS3.3 C.11.2.1.3.1
        exponent = -4 * (values.astype(np.float64) - (low + high) / 2) / (high - low)
        return np.rint(255 / (1 + np.exp(np.clip(exponent, -700, 700)))).astype(np.uint8)
    if not low < high:
        return np.where(values > low, 255, 0).astype(np.uint8)
    return apply_window(values, (low, high))
