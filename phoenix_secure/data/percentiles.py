"""A window by percentiles over all stored values of a set, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phoenix_secure.data.scale import Window
from phoenix_secure.errors import ConfigError, DataError

__all__ = ["Percentiles", "ValueCounts", "as_window", "window_of_texts"]

_MAX_PENDING = 1 << 20
# Bits of a float32 that are dropped: 16 of its mantissa stay, so that whole numbers below 2^17 are
# exact, and others to 1 part in 2^17.
_DROPPED = 7


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The percentiles of a set's values that become black and white, 0 <= low < high <= 100."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[p{self.low:g}, p{self.high:g}]"


def as_window(setting: tuple[float | str, float | str] | None) -> Window | Percentiles | None:
    """``data.window`` as it is written: two numbers, or two percentiles such as p1 and p99.

    Raises:     ConfigError for anything else.

    >>> str(as_window(("p1", "p99.5")))
    '[p1, p99.5]'
    """
    if setting is None:
        return None
    low, high = setting
    if not isinstance(low, str) and not isinstance(high, str):
        return float(low), float(high)
    if isinstance(low, str) and isinstance(high, str):
        try:
            found = float(low.removeprefix("p")), float(high.removeprefix("p"))
        except ValueError:
            found = math.nan, math.nan
        if low[:1] == high[:1] == "p" and 0 <= found[0] < found[1] <= 100:
            return Percentiles(*found)
    raise ConfigError(
        f"data.window must be two numbers, lo < hi, or two percentiles such as [p1, p99], got "
        f"[{str(low)[:20]}, {str(high)[:20]}]"
    )


def window_of_texts(low: str, high: str) -> Window | Percentiles:
    """The window of two words on the command line.

    Raises:     ConfigError.
    """
    try:
        return float(low), float(high)
    except ValueError:
        found = as_window((low, high))
    if found is None:
        raise ValueError("expected a window")
    return found


class ValueCounts:
    """How often each value occurs, over arrays that come one after another.

    Memory:     grows with the number of different values, not of pixels.
    """

    def __init__(self) -> None:
        self._keys: list[npt.NDArray[np.int32]] = []
        self._counts: list[npt.NDArray[np.int64]] = []
        self._pending = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count all of ``values``, finite numbers of any shape."""
        bits = values.astype(np.float32).ravel().view(np.int32)
        # In the order of the numbers: a negative float's bits count downwards.
        ordered = np.where(bits < 0, np.int32(-0x80000000) - bits, bits)
        keys, counts = np.unique(ordered >> _DROPPED, return_counts=True)
        self._keys.append(keys)
        self._counts.append(counts)
        self._pending += len(keys)
        if self._pending > _MAX_PENDING:
            self._join()

    def percentile(self, percent: float) -> float:
        """As ``np.percentile`` of all values, by linear interpolation.

        Raises:     DataError where nothing was counted.
        """
        self._join()
        keys, counts = self._keys[0], self._counts[0]
        if len(keys) == 0:
            raise DataError("data.window by percentiles: no value was found to count")
        ends = np.cumsum(counts)
        place = percent / 100 * (int(ends[-1]) - 1)
        low, high = (
            _value(int(keys[np.searchsorted(ends, rank, side="right")]))
            for rank in (math.floor(place), math.ceil(place))
        )
        return low + (high - low) * (place - math.floor(place))

    def window(self, percentiles: Percentiles, *, name: str) -> Window:
        """The window between two percentiles.

        Raises:     DataError where they are one and the same value.
        """
        found = self.percentile(percentiles.low), self.percentile(percentiles.high)
        if not found[0] < found[1]:
            raise DataError(
                f"{name}: data.window {percentiles} is {found[0]:g} at both ends: widen it, or set "
                "two numbers"
            )
        return found

    def _join(self) -> None:
        keys = np.concatenate([np.empty(0, np.int32), *self._keys])
        counts = np.concatenate([np.empty(0, np.int64), *self._counts])
        distinct, place = np.unique(keys, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, place, counts)
        self._keys, self._counts, self._pending = [distinct], [total], len(distinct)


def _value(key: int) -> float:
    ordered = key << _DROPPED
    bits = -0x80000000 - ordered if ordered < 0 else ordered
    return float(np.array([bits], np.int32).view(np.float32)[0])
