"""A clip norm that follows the updates, under privacy unit ``site``.

Each site says whether its update was within the norm C_r = f_r C. The answer rides in one more
coordinate of the vector that is noised and summed, as plus or minus ``kappa C``: what a site
enters is then at most ``C sqrt(1 + kappa^2)`` long, whatever it says and whatever f_r is, since an
update is divided by f_r before it is clipped to C. Noise, scale and words stay those of the run's
terms; only the server multiplies the mean by f_r again.

Source: Andrew, Thakkar, McMahan and Ramaswamy (2021), arXiv:1905.03871, Algorithm 1. Its Theorem 1
splits the noise by z^-2 = z_update^-2 + (2 sigma_count)^-2; here z_update = z sqrt(1 + kappa^2) and
sigma_count = z sqrt(1 + kappa^2) / (2 kappa), which is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from phoenix_secure.config import PrivacyConfig

__all__ = ["clip_bit_value", "count_weight", "next_clip_factor", "sensitivity_ratio"]

# A norm a thousand times off its start is no norm but a broken run; it is also far inside what a
# site takes (messages: 2^-20 to 2^20).
_FURTHEST = 1000.0


def count_weight(privacy: PrivacyConfig) -> float:
    """kappa, so that the count takes ``clip_budget`` of the squared sensitivity; 0 when off."""
    if not privacy.adaptive_clip:
        return 0.0
    return math.sqrt(privacy.clip_budget / (1 - privacy.clip_budget))


def clip_bit_value(privacy: PrivacyConfig) -> float:
    """kappa C as a float32, rounded towards zero: as such it goes into the vector."""
    exact = count_weight(privacy) * privacy.clip_norm
    nearest = np.float32(exact)
    return float(nearest if float(nearest) <= exact else np.nextafter(nearest, np.float32(0)))


def sensitivity_ratio(privacy: PrivacyConfig) -> float:
    """The bound on an input's norm as a multiple of ``clip_norm``: sqrt(1 + kappa^2)."""
    return math.hypot(1.0, count_weight(privacy))


def next_clip_factor(
    factor: float,
    *,
    unclipped_fraction: float | None,
    privacy: PrivacyConfig,
    exp: Callable[[float], float] = math.exp,
) -> float:
    """f_{r+1} = f_r exp(-eta (b - gamma)), with b the noised share of updates within the norm.

    It reads released numbers only, so that it costs nothing more. ``exp`` is the exponential: where
    several machines must get the same bits, one that does not ask the C library.

    >>> from phoenix_secure.config import PrivacyConfig
    >>> site = PrivacyConfig(unit="site", epsilon=8, adaptive_clip=True)
    >>> next_clip_factor(1.0, unclipped_fraction=1.0, privacy=site) < 1
    True
    """
    if unclipped_fraction is None or not privacy.adaptive_clip:
        return factor
    moved = factor * exp(
        -privacy.clip_learning_rate
        * (min(1.0, max(0.0, unclipped_fraction)) - privacy.clip_quantile)
    )
    return min(_FURTHEST, max(1 / _FURTHEST, moved))
