"""Fixed bins for scores: the same at every site, whatever it finds.

Each attack of a pooled audit is minus a mean over pixels, so that its logarithm has a range that
is known beforehand: what lies outside falls into the first or the last bin. An order within a bin
is lost; attacks can only look weaker for it, and by little (``docs/audit.md``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attacks.records import Scores

__all__ = ["LogBins", "expanded", "unit_bins"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LogBins:
    """Evenly from ``2^high`` (bin 0) down to ``2^low`` (the last bin): a small loss is a member's.

    low, high   logarithms to base 2 of the means over pixels
    """

    low: float
    high: float

    def of(self, scores: Scores, *, num_bins: int) -> npt.NDArray[np.int64]:
        """The bin of each score, which is minus a mean: (N,) in, (N,) out.

        Guarantee:  a larger score is in no lower bin.
        Raises:     ValueError for a score that is not finite or above zero.
        """
        if not np.isfinite(scores).all() or (scores > 0).any():
            raise ValueError("expected finite scores of zero or less")
        logs = np.log2(np.maximum(-scores, 2.0**-1000))
        places = (self.high - logs) / (self.high - self.low) * num_bins
        return np.clip(np.floor(places), 0, num_bins - 1).astype(np.int64)


def unit_bins(scores: Scores, *, num_bins: int) -> npt.NDArray[np.int64]:
    """The bin of each score in [0, 1].

    Raises:     ValueError for one outside.
    """
    if not ((scores >= 0) & (scores <= 1)).all():  # also NaN
        raise ValueError("expected scores in [0, 1]")
    return np.minimum(np.floor(scores * num_bins), num_bins - 1).astype(np.int64)


def expanded(*histograms: npt.NDArray[np.int64]) -> tuple[Scores, npt.NDArray[np.int64]]:
    """Scores that have these histograms, one after another, and which each one is from.

    Every figure that follows from the order of scores and their ties is the same for these as for
    the scores that were counted, once those are rounded to their bins.
    """
    parts = [np.repeat(np.arange(len(counts)), counts) for counts in histograms]
    places = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate(parts).astype(np.float64), places
