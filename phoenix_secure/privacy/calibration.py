"""How much noise a budget needs: bisection over whatever spends less with more noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.accounting import AccountingError, epsilon_of
from phoenix_secure.privacy.events import Event, PoissonSampledGaussian

__all__ = ["calibrate", "noise_multiplier_for"]

_LARGEST_NOISE = 1e4


def noise_multiplier_for(
    *, epsilon: float, delta: float, sampling_rate: float, steps: int
) -> float:
    """The least noise multiplier z whose ``steps`` Poisson-sampled Gaussians stay within budget.

    Guarantee:  epsilon_of(z) <= epsilon, and 0.2 percent less noise would exceed it.
    Raises:     ValueError for arguments out of range; ConfigError where no noise is enough.
    """
    return calibrate(
        lambda noise: [
            PoissonSampledGaussian(sampling_rate=sampling_rate, noise_multiplier=noise, steps=steps)
        ],
        epsilon=epsilon,
        delta=delta,
    )


def calibrate(
    events_at: Callable[[float], Sequence[Event]], *, epsilon: float, delta: float
) -> float:
    """The least noise multiplier for which ``events_at`` it spend at most ``epsilon``.

    Guarantee:  the result's own epsilon was computed, and is within the budget.
    Raises:     ValueError for epsilon <= 0; ConfigError where 10,000 would still be too little.
    """
    if not epsilon > 0:
        raise ValueError(f"expected epsilon > 0, got {epsilon}")

    def fits(noise: float) -> bool:
        try:
            return epsilon_of(events_at(noise), delta=delta).value <= epsilon
        except AccountingError:
            return False  # no epsilon can be named with so little noise

    high = 1.0
    while not fits(high):
        high *= 2
        if high > _LARGEST_NOISE:
            raise ConfigError(
                f"privacy.epsilon = {epsilon:g} at delta = {delta:g} needs a noise multiplier "
                "above 10,000: raise epsilon, or lower sampling_rate, local_steps or rounds"
            )
    low = high / 2
    while low > 1e-3 and fits(low):
        high, low = low, low / 2
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
