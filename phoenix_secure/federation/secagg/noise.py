"""Plans the noise that the sites add together under privacy unit ``site``, and its scale.

The sum over the survivors holds the noise of at least t - c honest sites, whoever dropped out and
whoever works with the server: each site's share has variance (z S C)^2 / (t - c), with z the noise
multiplier, C the clip norm and S the fixed-point steps per unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from phoenix_secure.config import PrivacyConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.calibration import calibrate
from phoenix_secure.privacy.events import DiscreteGaussianSum, SkellamSum
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.quantised import rounded_norm_bound
from protocol.parameters import skellam_tail

__all__ = ["SiteNoise", "SummedNoise", "choose_site_noise"]

# Tables of a site's share grow with its deviation: 2^14 steps are a table of 0.4 million entries,
# and rounding (at most one step) is far below such noise.
_LARGEST_SHARE = 2.0**28


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteNoise:
    """The noise of one run.

    noise_multiplier   z: deviation of the honest noise in the sum, in units of ``clip_norm``
    scale              S: fixed-point steps per unit; a power of two but for sums of gradients
    l2_bound           D: L2 norm, in steps, that no site's rounded input exceeds
    share_variance     of one site's noise in one coordinate, in steps^2
    event              one release: one round
    """

    noise_multiplier: float
    scale: float
    l2_bound: float
    share_variance: float
    event: SkellamSum | DiscreteGaussianSum


@dataclass(frozen=True, kw_only=True, slots=True)
class SummedNoise:
    """One site's noise, and the grid of the whole numbers that it is added to."""

    noise: SiteNoise
    grid: IntegerGrid


def choose_site_noise(
    privacy: PrivacyConfig,
    *,
    releases: int,
    num_words: int,
    cohort_size: int,
    num_honest: int,
    clip_norm: float,
    clip_value: float,
    word_bits: int,
) -> SiteNoise:
    """The finest scale at which the noised sum fits the words, and the noise that goes with it.

    num_words    coordinates of what a site enters, its noised count included
    num_honest   t - max(1, c): sites whose noise is in every sum and hidden from the colluders
    clip_norm    L2 norm that nothing a site enters exceeds before rounding
    Guarantee:   ``releases`` rounds spend at most ``privacy.epsilon``, where it is set; a sum
                 wraps around with probability 2^-40 at most.
    Raises:      ConfigError naming the setting.
    """
    largest_sum = (1 << (word_bits - 1)) - 1
    exponent = math.floor(math.log2(largest_sum / (cohort_size * clip_value)))

    def at(scale: float) -> tuple[float, float]:
        """Bound and noise multiplier at a scale."""
        bound = rounded_norm_bound(scale * clip_norm, num_words=num_words)
        noise = _noise_multiplier(
            privacy,
            releases=releases,
            num_words=num_words,
            deviation_of_one=scale * clip_norm,
            bound=bound,
        )
        return bound, noise

    # Coarser steps need a little more noise, never less: scales that cannot fit the noise of the
    # finest one are passed over without calibrating again.
    _, least = at(2.0**exponent)
    for power in range(exponent, -64, -1):
        scale = 2.0**power
        if scale * clip_norm < math.sqrt(num_words) / 2:
            break  # rounding alone would outgrow the update
        if not _fits(least * scale * clip_norm, num_honest):
            continue
        bound, noise = at(scale)
        deviation = noise * scale * clip_norm
        share = deviation**2 / num_honest
        tail = skellam_tail(cohort_size * share, num_words=num_words)
        fits = cohort_size * math.ceil(scale * clip_value) + tail <= largest_sum
        if fits and _fits(deviation, num_honest):
            return SiteNoise(
                noise_multiplier=noise,
                scale=scale,
                l2_bound=bound,
                share_variance=share,
                event=_event(num_words, bound=bound, deviation=deviation),
            )
    raise ConfigError(
        f"{word_bits}-bit words are too narrow for the noise of privacy.unit = site at "
        f"{num_words} words: raise secure_aggregation.word_bits or privacy.epsilon"
    )


def _fits(deviation: float, num_honest: int) -> bool:
    return deviation**2 / num_honest <= _LARGEST_SHARE


def _event(num_words: int, *, bound: float, deviation: float) -> SkellamSum:
    return SkellamSum(num_words=num_words, l2_sensitivity=bound, variance=deviation**2, releases=1)


def _noise_multiplier(
    privacy: PrivacyConfig, *, releases: int, num_words: int, deviation_of_one: float, bound: float
) -> float:
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    assert privacy.epsilon is not None  # noqa: S101 - PrivacyConfig has one of the two
    return calibrate(
        lambda noise: (
            [_event(num_words, bound=bound, deviation=noise * deviation_of_one)] * releases
        ),
        epsilon=privacy.epsilon,
        delta=privacy.delta,
    )
