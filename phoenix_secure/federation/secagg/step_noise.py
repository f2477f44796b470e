"""The scale and the shared noise of sums of gradients: units ``record`` and ``group``, trust
``sum``, every step.

::

    words = sum over a site's Poisson sample of round(-F clip(g, C) / C),   F = D - sqrt(d) / 2

No image's (person's) rounded gradient is longer than D steps, which is checked in whole numbers:
the sensitivity is D exactly. Every site adds a discrete Gaussian share of variance
(z D)^2 / (t - c). The t - c honest shares that every sum holds have together the noise that the
accounting names; those of further survivors are surplus. The sum is divided by public constants
alone.
"""

from __future__ import annotations

import math

from phoenix_secure.config import CLASSIFIER, PrivacyConfig, RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import cohort_size, max_participations
from phoenix_secure.federation.secagg.noise import SiteNoise, SummedNoise
from phoenix_secure.federation.secagg.spent_before import spent_before
from phoenix_secure.privacy.calibration import noise_multiplier_for
from phoenix_secure.privacy.discrete_gaussian import LARGEST_VARIANCE
from phoenix_secure.privacy.events import DiscreteGaussianSum, Event, least_share_variance
from phoenix_secure.privacy.integer_grid import IntegerGrid
from protocol.parameters import skellam_tail

__all__ = ["choose_step_noise", "step_noise"]

_FINEST, _COARSEST = 22, 4
# Rounding may take this much of a gradient's norm, and with it of the signal.
_LARGEST_LOSS = 0.05
# A classifier's gradients are spread over all coordinates: the mean over a site's images has none
# larger than so many times one of a flat vector.
_FLATTEST = 32.0
_PLAINTEXT_BITS = 32


def step_noise(config: RunConfig, *, num_words: int, num_honest: int) -> SummedNoise:
    """Of all steps that the settings ask for.

    num_honest   sites whose noise is in every sum and hidden from the colluders; 1 under trust
                 ``site-local``, where no words limit it

    Raises:      ConfigError naming the setting.
    """
    is_shared = config.privacy.trust == "sum"
    largest = 1.0
    if config.model.network == CLASSIFIER:
        largest = min(1.0, _FLATTEST / math.sqrt(num_words))
    noise, grid = choose_step_noise(
        config.privacy,
        num_words=num_words,
        batch_size=config.training.batch_size,
        releases=max_participations(config),
        cohort_size=cohort_size(config),
        num_honest=num_honest,
        word_bits=config.secure_aggregation.word_bits if is_shared else _PLAINTEXT_BITS,
        before=spent_before(config),
        largest=largest,
    )
    return SummedNoise(noise=noise, grid=grid)


def choose_step_noise(
    privacy: PrivacyConfig,
    *,
    num_words: int,
    batch_size: int,
    releases: int,
    cohort_size: int,
    num_honest: int,
    word_bits: int,
    before: tuple[Event, ...] = (),
    largest: float = 1.0,
) -> tuple[SiteNoise, IntegerGrid]:
    """The finest scale at which the noised sum fits the words, and the noise that goes with it.

    before       events that the same budget has paid for
    batch_size   public divisor of a site's sum; as many gradients of one direction are not cut off
    releases     steps that one site may answer
    num_honest   t - max(1, c): sites whose noise is in every sum and hidden from the colluders
    largest      part of the clip norm that no coordinate of a site's mean gradient exceeds: what is
                 beyond it is cut off

    Guarantee:   ``releases`` steps spend at most ``privacy.epsilon``, where it is set; nothing
                 looks at images. A sum wraps around with probability 2^-40 at most, which costs
                 accuracy and no privacy.
    Raises:      ConfigError naming the setting.
    """
    multiplier = privacy.noise_multiplier or _rounded_up(
        noise_multiplier_for(
            epsilon=privacy.epsilon or math.inf,
            delta=privacy.delta,
            sampling_rate=privacy.sampling_rate,
            steps=releases,
            before=before,
        )
    )
    largest_sum = (1 << (word_bits - 1)) - 1
    for power in range(_FINEST, _COARSEST, -1):
        grid = IntegerGrid(steps=1 << power, limit=math.ceil((batch_size << power) * largest))
        if math.sqrt(num_words) / 2 > _LARGEST_LOSS * grid.steps:
            break
        share = least_share_variance(
            noise_multiplier=multiplier, l2_sensitivity=grid.steps, num_shares=num_honest
        )
        if share > LARGEST_VARIANCE:
            continue
        tail = skellam_tail(float(cohort_size * share), num_words=num_words)
        # One step more: the limit in units of the update is rounded.
        if cohort_size * (grid.limit + 1) + tail > largest_sum:
            continue
        event = DiscreteGaussianSum(
            num_words=num_words,
            sampling_rate=privacy.sampling_rate,
            l2_sensitivity=float(grid.steps),
            share_variance=float(share),
            num_shares=num_honest,
            steps=1,
            unit=privacy.record_kind,
        )
        noise = SiteNoise(
            noise_multiplier=multiplier,
            scale=grid.feature_scale(num_words) / privacy.clip_norm * batch_size,
            l2_bound=grid.limit * math.sqrt(num_words),
            share_variance=float(share),
            event=event,
        )
        return noise, grid
    raise ConfigError(
        f"{word_bits}-bit words are too narrow for noised sums of gradients of {cohort_size} sites "
        f"with {num_words:,} parameters and batches of {batch_size}: set "
        "secure_aggregation.word_bits=32, or take a smaller network, larger privacy.epsilon or "
        "smaller training.batch_size"
    )


def _rounded_up(noise: float) -> float:
    """To six digits. The accountants' last bits differ between processors, and sites refuse a round
    whose noise is not exactly their own."""
    step = 10.0 ** (math.floor(math.log10(noise)) - 5)
    count = math.ceil(noise / step)
    return count * step if count * step >= noise else (count + 1) * step
