"""Stored values to bytes: by a declared window, or where the range leaves no doubt."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.errors import ConfigError, DataError

__all__ = ["Window", "apply_window", "check_window", "shown_window", "to_bytes"]

Window = tuple[float, float]

# Images on the scale [-1, 1] reach almost down to -1. Centred or standardised ones do not, and
# would lose contrast without a word.
_NEAR_MINUS_ONE = -0.9
# An integer type wider than a byte with nothing above this is rather of fewer bits (digits in
# 0..16) than dark.
_HALF_SCALE = 127
_WAYS_OUT = "save 0..255 as uint8, or set data.window"


def check_window(window: Window | None) -> None:
    """Refuse a window that maps nothing.

    Raises:     ConfigError that names the setting.
    """
    if window is not None and not (np.isfinite(window).all() and window[0] < window[1]):
        raise ConfigError(f"window must be two numbers lo < hi, got {shown_window(window)}")


def shown_window(window: Window) -> str:
    """The window as it is written in settings."""
    return f"[{window[0]:g}, {window[1]:g}]"


def apply_window(values: npt.NDArray[Any], window: Window) -> npt.NDArray[np.uint8]:
    """byte = round(255 * clip((v - lo) / (hi - lo), 0, 1)), halves to the even byte.

    Shape:      any, numbers in, uint8 out.

    >>> apply_window(np.array([-5, 0, 2048, 4095, 9000]), (0, 4095)).tolist()
    [0, 0, 128, 255, 255]
    """
    low, high = window
    unit = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.rint(unit * 255).astype(np.uint8)


def to_bytes(
    images: npt.NDArray[Any], *, window: Window | None, name: str
) -> tuple[npt.NDArray[np.uint8], str]:
    """The pixels as bytes, and the scale they were read in.

    Shape:      (N, ...) in and out.
    Units:      without a window, integers in 0..255, floats in [0, 1], or floats in [-1, 1] that
                reach below -0.9.
    Raises:     DataError that names ``name`` for NaN and infinity, and for every range that can be
                read in more than one way, with the readings.
    """
    kind = images.dtype.kind
    if kind not in "uif":
        raise DataError(f"{name}: images are {images.dtype}, expected uint8 or floats")
    if kind == "f":
        bad = ~np.isfinite(images).reshape(len(images), -1).all(axis=1)
        if bad.any():
            raise DataError(
                f"{name}: {int(bad.sum())} image(s) hold NaN or infinity, "
                f"the first is image {int(bad.argmax())}: repair or remove them"
            )
    low, high = images.min(), images.max()
    if window is not None:
        scale = f"values in the window {shown_window(window)}"
        return apply_window(images, window), f"{scale} (found {low:g}..{high:g})"
    if kind == "f":
        assumed = _float_window(float(low), float(high), name=name)
        scale = f"floats in {shown_window(assumed)} (found {low:g}..{high:g})"
        return apply_window(images, assumed), scale
    _check_integers(int(low), int(high), dtype=images.dtype, name=name)
    return images.astype(np.uint8), f"integers in 0..255 (found {low}..{high})"


def _check_integers(low: int, high: int, *, dtype: np.dtype[Any], name: str) -> None:
    found = f"{name}: integer pixels in {low}..{high}"
    if low < 0 or high > 255:
        raise DataError(
            f"{found}, expected 0..255: rescale them to 8 bits, or set data.window to the two "
            "values that become black and white"
        )
    if high <= 1:
        raise DataError(
            f"{found} would be black images on the scale 0..255: multiply them by 255, "
            "or set data.window to [0, 1]"
        )
    if high <= _HALF_SCALE and dtype != np.uint8:
        raise DataError(
            f"{found} as {dtype} are either dark images on the scale 0..255 or of fewer bits: "
            f"save them as uint8, or set data.window to [0, 255] or to [0, {high}]"
        )


def _float_window(low: float, high: float, *, name: str) -> Window:
    if low >= 0 and high < 2 / 255:
        raise DataError(
            f"{name}: float pixels in {low:g}..{high:g} would be black images on the scale [0, 1]: "
            "were they divided by 255 twice? rescale them, or set data.window"
        )
    if low >= 0 and high <= 1:
        return (0, 1)
    if -1 <= low <= _NEAR_MINUS_ONE and high <= 1:
        return (-1, 1)
    found = f"{name}: float pixels in {low:.9g}..{high:.9g}"
    expected = "expected [0, 1] or [-1, 1]"
    if low >= -1.1 and high <= 1.1:
        raise DataError(
            f"{found}, {expected}: these are either values of [0, 1] with something outside, or of "
            f"[-1, 1], or standardised; clip them, or {_WAYS_OUT} to [0, 1] or to [-1, 1]"
        )
    raise DataError(f"{found}, {expected}: rescale them, or {_WAYS_OUT} to their black and white")
