"""What something cost: seconds, images and bytes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

__all__ = ["Cost", "Stopwatch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Seconds of wall-clock time, images handled, bytes sent to and received from sites.

    Raises:     ValueError for a negative or non-finite figure.

    >>> Cost(seconds=2.0, num_images=500) + Cost(seconds=3.0, bytes_up=10)
    Cost(seconds=5.0, num_images=500, bytes_up=10, bytes_down=0)
    """

    seconds: float
    num_images: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def __post_init__(self) -> None:
        for name in ("seconds", "num_images", "bytes_up", "bytes_down"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"expected {name} >= 0 and finite, got {value}")

    def __add__(self, other: Cost) -> Cost:
        """The cost of both, one after the other."""
        return Cost(
            seconds=self.seconds + other.seconds,
            num_images=self.num_images + other.num_images,
            bytes_up=self.bytes_up + other.bytes_up,
            bytes_down=self.bytes_down + other.bytes_down,
        )

    @property
    def images_per_second(self) -> float | None:
        """Throughput, or None where no time was measured.

        >>> Cost(seconds=2.0, num_images=500).images_per_second
        250.0
        """
        return self.num_images / self.seconds if self.seconds > 0 else None


class Stopwatch:
    """Adds up the time spent inside ``with`` blocks, on a clock that never runs backwards.

    >>> ticks = iter([10.0, 12.5])
    >>> with Stopwatch(clock=lambda: next(ticks)) as stopwatch:
    ...     pass
    >>> stopwatch.seconds
    2.5
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at: float | None = None
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Seconds inside all blocks that were left, plus those of the open one."""
        if self._started_at is None:
            return self._seconds
        return self._seconds + self._clock() - self._started_at

    def __enter__(self) -> Stopwatch:
        """Start; raises ValueError when it runs already."""
        if self._started_at is not None:
            raise ValueError("expected a stopwatch that stands still: it runs already")
        self._started_at = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, whether the block failed or not."""
        self._seconds = self.seconds
        self._started_at = None
