"""A site's metrics beside its update, as integers inside the masked vector.

The server sees only their sums over the survivors: images, steps, loss, how many were clipped, how
many trainings failed. A failed one has no images, steps or loss.
A number that does not fit one word travels as several digits, each summed by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MetricWords", "Metrics"]

_MAX_STEPS = (1 << 24) - 1
# Losses above 4096 count as 4096; steps of 2^-20 are far below the noise of any loss.
_LOSS_STEPS = 1 << 20
_MAX_LOSS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """One site's numbers, or their sums over sites.

    num_images     images held, at most ``max_images`` a site: the weight of the update
    num_steps      local steps taken
    weighted_loss  loss times num_images, summed
    num_clipped    updates that were clipped in norm or in a coordinate
    num_failed     sites whose training failed, and which entered zeros
    """

    num_images: int
    num_steps: int
    weighted_loss: float
    num_clipped: int
    num_failed: int

    @property
    def loss(self) -> float:
        """The mean over sites, weighted by images."""
        return self.weighted_loss / self.num_images


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricWords:
    """Metrics as non-negative words below 2^digit_bits.

    digit_bits   such that a sum over the whole cohort fits one word
    max_images   W: a site with more counts as W
    """

    digit_bits: int
    max_images: int

    def __post_init__(self) -> None:
        if self.digit_bits < 1 or self.max_images < 1:
            raise ValueError("expected digit_bits >= 1 and max_images >= 1")

    @property
    def _maxima(self) -> tuple[int, ...]:
        return (self.max_images, _MAX_STEPS, _MAX_LOSS * _LOSS_STEPS, 1, 1)

    @property
    def bounds(self) -> tuple[int, ...]:
        """Largest value of each word."""
        return tuple(
            min((1 << self.digit_bits) - 1, maximum >> (self.digit_bits * place))
            for maximum in self._maxima
            for place in range(self._num_digits(maximum))
        )

    def weight(self, num_images: int) -> float:
        """w = min(images, W) / W, in (0, 1]."""
        return min(num_images, self.max_images) / self.max_images

    def encode(
        self, *, num_images: int, num_steps: int, loss: float, clipped: bool
    ) -> tuple[int, ...]:
        """One site's words.

        Raises:     ValueError for a count below 1 or a loss that is not finite.
        """
        if num_images < 1 or num_steps < 1 or not math.isfinite(loss):
            raise ValueError("expected at least one image and one step, and a finite loss")
        kept = min(max(loss, 0.0), float(_MAX_LOSS))
        return self._digits(
            min(num_images, self.max_images),
            min(num_steps, _MAX_STEPS),
            round(kept * self.weight(num_images) * _LOSS_STEPS),
            int(clipped),
            0,
        )

    def encode_failure(self) -> tuple[int, ...]:
        """The words of a site whose training failed."""
        return self._digits(0, 0, 0, 0, 1)

    def _digits(self, *values: int) -> tuple[int, ...]:
        mask = (1 << self.digit_bits) - 1
        return tuple(
            (value >> (self.digit_bits * place)) & mask
            for value, maximum in zip(values, self._maxima, strict=True)
            for place in range(self._num_digits(maximum))
        )

    def decode(self, sums: Sequence[int], *, num_sites: int) -> Metrics:
        """The metrics behind sums of ``num_sites`` sites' words.

        Raises:     ValueError for another number of words, or sums that no honest sites could have
                    sent: a word beyond its bound, fewer images or steps than sites that trained.
        """
        if len(sums) != len(self.bounds) or not all(
            0 <= value <= num_sites * bound for value, bound in zip(sums, self.bounds, strict=True)
        ):
            raise ValueError(
                f"expected {len(self.bounds)} sums, from 0 to what {num_sites} sites may say"
            )
        rest = list(sums)
        values = []
        for maximum in self._maxima:
            digits, rest = rest[: self._num_digits(maximum)], rest[self._num_digits(maximum) :]
            values.append(sum(d << (self.digit_bits * place) for place, d in enumerate(digits)))
        num_images, num_steps, loss, num_clipped, num_failed = values
        num_trained = num_sites - num_failed
        if num_images < num_trained or num_steps < num_trained:
            raise ValueError("expected at least one image and one step of each site that trained")
        limits = [num_trained * maximum for maximum in self._maxima[:-1]]
        if any(value > limit for value, limit in zip(values, limits, strict=False)):
            raise ValueError(f"expected counts within what {num_trained} sites may say")
        return Metrics(
            num_images=num_images,
            num_steps=num_steps,
            weighted_loss=loss / _LOSS_STEPS * self.max_images,
            num_clipped=num_clipped,
            num_failed=num_failed,
        )

    def _num_digits(self, maximum: int) -> int:
        return -(-maximum.bit_length() // self.digit_bits)
