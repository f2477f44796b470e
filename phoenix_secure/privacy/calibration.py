"""The noise that a budget needs: a root search over any mechanism that spends less with more noise.

The search asks one accountant; the second one is asked about its result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.accounting import bound_of, epsilon_of
from phoenix_secure.privacy.budget import LARGEST_DELTA, LEAST_DELTA
from phoenix_secure.privacy.events import Event, PoissonSampledGaussian
from phoenix_secure.privacy.safe_side import two_digits_up

__all__ = [
    "LARGEST_EPSILON",
    "LEAST_RATE",
    "calibrate",
    "check_budget",
    "noise_multiplier_for",
]

_LARGEST_NOISE = 1e4
_LEAST_NOISE = 1e-3
LARGEST_EPSILON = 1000.0
LEAST_RATE = 1e-9


def check_budget(
    *, delta: float, epsilon: float | None = None, sampling_rate: float | None = None
) -> None:
    """Refuse settings that mean nothing whatever the number of images is.

    Raises:     ConfigError naming the setting and the fix.
    """
    if not delta < LARGEST_DELTA:
        raise ConfigError(
            f"privacy.delta = {delta:g} must be well below 1/images, and below 1/sites: that "
            "many could be fully disclosed; lower it, to 1e-5 or less"
        )
    if not delta >= LEAST_DELTA:
        raise ConfigError(
            f"privacy.delta = {delta:g} is below {LEAST_DELTA:g}, which no accountant resolves in "
            "double precision; raise it, to 1/images^2 or so"
        )
    if epsilon is not None and not 0 < epsilon <= LARGEST_EPSILON:
        raise ConfigError(
            f"privacy.epsilon = {epsilon:g} must be above 0 and at most {LARGEST_EPSILON:g}: more "
            "promises nothing; choose 1 to 10, or privacy.unit = none"
        )
    if sampling_rate is not None and not LEAST_RATE <= sampling_rate <= 1:
        raise ConfigError(
            f"privacy.sampling_rate = {sampling_rate:g} must be between {LEAST_RATE:g} and 1: "
            "less samples no image of any data set; raise it, to training.batch_size/images or so"
        )


@functools.lru_cache(maxsize=256)
def noise_multiplier_for(
    *,
    epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    before: tuple[Event, ...] = (),
) -> float:
    """The least noise multiplier z whose ``steps`` Poisson-sampled Gaussians stay within budget.

    before    events that the same budget has paid for

    Guarantee:  epsilon_of(z) <= epsilon, and 0.2 percent less noise would exceed it.
    Raises:     ValueError for arguments out of range; ConfigError where no noise is enough.
    """
    check_budget(delta=delta, sampling_rate=sampling_rate)
    spent = bound_of(before, delta=delta)
    if before and spent >= 0.999 * epsilon:
        raise ConfigError(
            f"privacy.epsilon = {epsilon:g} is spent: the runs behind model.init_from have "
            f"{spent:.4g} of it; raise it, or lower their share (release.share)"
        )
    return calibrate(
        lambda noise: [
            *before,
            PoissonSampledGaussian(
                sampling_rate=sampling_rate, noise_multiplier=noise, steps=steps
            ),
        ],
        epsilon=epsilon,
        delta=delta,
    )


def calibrate(
    events_at: Callable[[float], Sequence[Event]], *, epsilon: float, delta: float
) -> float:
    """The least noise multiplier for which ``events_at`` it spend at most ``epsilon``.

    Guarantee:  the result's own epsilon was computed, and is within the budget.
    Raises:     ValueError for epsilon <= 0; ConfigError where 10,000 would still be too little;
                AccountingError where two accountants disagree about the result.
    """
    if not epsilon > 0:
        raise ValueError(f"expected epsilon > 0, got {epsilon}")
    check_budget(delta=delta, epsilon=epsilon)
    search = _Search(epsilon)
    noise = 1.0
    while not search.is_over:
        if noise > _LARGEST_NOISE and search.low >= _LARGEST_NOISE:
            least = two_digits_up(bound_of(events_at(_LARGEST_NOISE), delta=delta))
            raise ConfigError(
                f"privacy.epsilon = {epsilon:g} at delta = {delta:g} needs a noise multiplier "
                f"above 10,000: raise epsilon to {least:g}, or lower sampling_rate, local_steps or "
                "rounds"
            )
        noise = min(noise, _LARGEST_NOISE)  # a guess beyond it says nothing about it
        noise = search.next_after(noise, bound_of(events_at(noise), delta=delta))
    found = epsilon_of(events_at(search.high), delta=delta)
    assert found.value <= epsilon  # noqa: S101 - bound_of and epsilon_of name the same figure
    return search.high


class _Search:
    """Secant steps on log epsilon over log noise, kept within a bracket that only shrinks.

    Epsilon falls with noise, smoothly, and costs a second where it is large: bisection would take
    three times as many evaluations.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self.low, self.high = 0.0, math.inf
        self._last: tuple[float, float] | None = None

    @property
    def is_over(self) -> bool:
        """Whether ``high`` fits and 0.2 percent less does not, or needs no further search."""
        return self.high <= max(self.low * 1.002, _LEAST_NOISE)

    def next_after(self, noise: float, found: float) -> float:
        """Take in that ``noise`` spends ``found``; the next noise to try."""
        fits = found <= self._target
        if fits:
            self.high = min(self.high, noise)
        else:
            self.low = max(self.low, noise)
        if not (math.isfinite(found) and found > 0):
            guess = noise * (0.5 if fits else 2.0)
        else:
            x, y = math.log(noise), math.log(found / self._target)
            slope = -1.0
            if self._last is not None and self._last[0] != x:
                slope = min(-0.2, max(-8.0, (y - self._last[1]) / (x - self._last[0])))
            self._last = x, y
            # A little beyond the root, so that the bracket closes from the other side too.
            guess = noise * math.exp(max(-2.0, min(2.0, -y / slope))) * (0.9992 if fits else 1.0008)
        if self.low < guess < self.high:
            return guess
        return math.sqrt(self.low * self.high) if self.low > 0 else self.high / 2
