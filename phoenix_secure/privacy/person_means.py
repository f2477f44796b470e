"""Gradients of persons: the mean over the images of each, before anything is clipped.

Under ``privacy.unit: group`` the vector that is clipped is a person's. Clipping her images one by
one would let k of them move a step by k clip norms, where one is accounted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

__all__ = ["PersonMeans"]


class PersonMeans:
    """Means over the persons of one step, whose images come in chunks, one person after the other.

    Guarantee:  a person's mean has the same bits in any company, where its images' gradients have:
                they are added in their own order, one by one, wherever a chunk ends.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        """``counts``: images of each person of the step, in order; at least 1 each."""
        if min(counts, default=1) < 1:
            raise ValueError("expected at least one image of each person")
        self._counts = np.asarray(counts, np.int64)
        self._ends = np.cumsum(self._counts)
        self._done = 0  # images that came
        self._open: dict[str, torch.Tensor] | None = None  # sum so far of a person cut by a chunk

    def take(
        self, samples: Mapping[str, torch.Tensor], num_images: int
    ) -> tuple[Mapping[str, torch.Tensor], int]:
        """The means of the persons whose last image is among the next ``num_images``.

        Shape:      samples: name -> (n, *shape), n >= num_images; so are the means, of which the
                    first P count, and P.
        Raises:     ValueError for more images than the persons have.
        """
        end = self._done + num_images
        if num_images < 1 or end > self._counts.sum():
            raise ValueError(f"expected at most {self._counts.sum()} images in all, got {end}")
        first = int(np.searchsorted(self._ends, self._done, side="right"))
        last = int(np.searchsorted(self._ends, end, side="left"))
        stops = np.minimum(self._ends[first : last + 1], end) - self._done
        starts = np.concatenate([[0], stops[:-1]])
        num_closed = len(stops) - int(self._ends[last] > end)
        divisors = self._counts[first : first + num_closed]
        means: dict[str, torch.Tensor] = {}
        still_open: dict[str, torch.Tensor] = {}
        for name, sample in samples.items():
            total = self._sums(name, sample, starts=starts, sizes=stops - starts)
            if num_closed < len(stops):
                still_open[name] = total[num_closed].clone()
            shape = (num_closed, *([1] * (total.dim() - 1)))
            total[:num_closed] /= torch.from_numpy(divisors).to(total).view(shape)
            means[name] = total
        self._open = still_open or None
        self._done = end
        return means, num_closed

    def _sums(
        self, name: str, sample: torch.Tensor, *, starts: np.ndarray, sizes: np.ndarray
    ) -> torch.Tensor:
        """Sums in the first rows of as many rows as ``sample`` has: equal work for any persons."""
        rows = np.arange(len(sample))
        rows[: len(starts)] = starts
        total = sample[torch.from_numpy(rows).to(sample.device)]
        if self._open is not None:
            total[0] = self._open[name] + total[0]
        for place in range(1, int(sizes.max())):
            has_it = np.flatnonzero(sizes > place)
            there = torch.from_numpy(has_it).to(sample.device)
            total[there] += sample[torch.from_numpy(starts[has_it] + place).to(sample.device)]
        return total
