"""The scale and the noise of a one-shot release: unit ``record`` or ``group``.

Under trust ``sum`` the sites add discrete Gaussian shares of variance (z D)^2 / (t - c) each,
D = S sqrt(1 + lambda^2) being the exact sensitivity of the integer sums. The t - c honest shares
that every sum holds have together the noise that the accounting names; those of further survivors
are surplus. Under trust ``site-local`` one share is enough, whoever works with the server.
"""

from __future__ import annotations

import math

from phoenix_secure.config import PrivacyConfig, RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import cohort_size
from phoenix_secure.federation.secagg.noise import SiteNoise, SummedNoise
from phoenix_secure.privacy.calibration import calibrate
from phoenix_secure.privacy.discrete_gaussian import LARGEST_VARIANCE
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.release.layout import ReleaseLayout
from protocol.parameters import skellam_tail

__all__ = ["choose_release_noise", "plaintext_release_noise"]

_FINEST, _COARSEST = 22, 4
# Rounding may take this much of the features' norm, and with it of the signal.
_LARGEST_LOSS = 0.02
_PLAINTEXT_BITS = 32


def plaintext_release_noise(config: RunConfig, layout: ReleaseLayout) -> SummedNoise:
    """Of trust ``site-local`` without secure aggregation: no words limit it.

    Raises:      ConfigError naming the setting.
    """
    noise, grid = choose_release_noise(
        config.privacy,
        layout,
        cohort_size=cohort_size(config),
        num_honest=1,
        word_bits=_PLAINTEXT_BITS,
    )
    return SummedNoise(noise=noise, grid=grid)


def choose_release_noise(
    privacy: PrivacyConfig,
    layout: ReleaseLayout,
    *,
    cohort_size: int,
    num_honest: int,
    word_bits: int,
) -> tuple[SiteNoise, IntegerGrid]:
    """The finest scale at which the noised sum fits the words, and the noise that goes with it.

    num_honest   t - max(1, c): sites whose noise is in every sum and hidden from colluders; 1 under
                 trust ``site-local``

    Guarantee:   one release spends at most ``privacy.epsilon``, where it is set; nothing looks at
                 images. A sum wraps around with probability 2^-40 at most, which costs accuracy and
                 no privacy.
    Raises:      ConfigError naming the setting.
    """
    release, largest_sum = layout.release, (1 << (word_bits - 1)) - 1
    largest = max(release.count_weight, layout.max_coordinate) * release.max_images

    def grid_at(power: int) -> IntegerGrid:
        count_step = max(1, round(release.count_weight * 2**power))
        return IntegerGrid(
            steps=1 << power, count_step=count_step, limit=math.ceil(largest * 2**power)
        )

    def fits(event: DiscreteGaussianSum, grid: IntegerGrid) -> bool:
        tail = skellam_tail(cohort_size * event.share_variance, num_words=layout.num_words)
        is_drawn = event.share_variance <= LARGEST_VARIANCE
        return is_drawn and cohort_size * grid.limit + tail <= largest_sum

    # Coarser steps need a little more noise, never less: scales that cannot hold the noise of the
    # finest one are passed over without calibrating again.
    least = _noise_multiplier(privacy, layout, grid=grid_at(_FINEST), num_honest=num_honest)
    for power in range(_FINEST, _COARSEST, -1):
        grid = grid_at(power)
        if math.sqrt(layout.num_features) / 2 > _LARGEST_LOSS * grid.steps:
            break  # rounding would take too much of the features
        if not fits(_event(least, privacy, layout, grid=grid, num_honest=num_honest), grid):
            continue
        multiplier = _noise_multiplier(privacy, layout, grid=grid, num_honest=num_honest)
        event = _event(multiplier, privacy, layout, grid=grid, num_honest=num_honest)
        if fits(event, grid):
            noise = SiteNoise(
                noise_multiplier=multiplier,
                scale=float(grid.steps),
                l2_bound=grid.limit * math.sqrt(layout.num_words),
                share_variance=event.share_variance,
                event=event,
            )
            return noise, grid
    raise ConfigError(
        f"{word_bits}-bit words are too narrow for a release of {cohort_size} sites with "
        f"{release.max_images} images each: set secure_aggregation.word_bits=32, or lower "
        "release.max_images"
    )


def _event(
    multiplier: float,
    privacy: PrivacyConfig,
    layout: ReleaseLayout,
    *,
    grid: IntegerGrid,
    num_honest: int,
) -> DiscreteGaussianSum:
    """One release whose honest shares have the deviation ``multiplier`` times the sensitivity."""
    share = math.ceil(multiplier**2 * grid.squared_sensitivity / num_honest)
    return DiscreteGaussianSum(
        num_words=layout.num_words,
        sampling_rate=1.0,
        l2_sensitivity=math.sqrt(grid.squared_sensitivity),
        share_variance=float(max(64, share)),
        num_shares=num_honest,
        steps=1,
        unit=privacy.record_kind,
    )


def _noise_multiplier(
    privacy: PrivacyConfig, layout: ReleaseLayout, *, grid: IntegerGrid, num_honest: int
) -> float:
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    assert privacy.epsilon is not None  # noqa: S101 - PrivacyConfig has one of the two
    return calibrate(
        lambda noise: [_event(noise, privacy, layout, grid=grid, num_honest=num_honest)],
        epsilon=privacy.epsilon,
        delta=privacy.delta,
    )
