"""Which sums honest sites can have entered; every other one is refused.

A dishonest site's software can enter anything modulo 2^b, and a sum hides it like all others. What
the sum itself shows is whether honest sites could have made it: no coordinate and no norm beyond
what their clips allow together, no count outside what each may say. So whatever is entered, a mean
update that is used is at most as long as one honest site's may be (but for rounding and noise).

Who entered it the sum does not say, and nothing here guesses: sums over smaller groups of the same
updates could be subtracted from each other, and a group that holds the culprit holds honest sites.

Source: Bernstein's inequality for the norm of the noise (Boucheron et al., 2013, section 2.8).
"""

from __future__ import annotations

import math

import numpy as np

from phoenix_secure.federation.secagg.terms import SecureTerms
from protocol.parameters import skellam_tail

__all__ = ["check_sum", "noise_norm_bound"]

# Clipping in float32 and weights rounded to it; far below any clip's meaning.
_FLOAT32 = 1 + 1e-5
_LOG2_PROBABILITY = -40.0


def check_sum(total: np.ndarray, *, weight: float, num_sites: int, terms: SecureTerms) -> None:
    """Refuse a sum of updates that no ``num_sites`` honest sites can have entered.

    total     (num_words,) float64, in units of the update, before any division
    weight    the sum of the sites' weights, each in (0, 1]
    Guarantee:  an honest sum passes; under privacy unit ``site`` but for 2^-39.
    Raises:     ValueError naming the bound, with no value of the sum.
    """
    d, step = terms.num_parameters, 1 / terms.scale
    rounding, tail, noise_norm = num_sites * step, 0.0, 0.0
    norm = weight * terms.clip_norm * _FLOAT32 + rounding * math.sqrt(d)
    if terms.noise is not None:
        variance = num_sites * terms.noise.share_variance
        tail = step * skellam_tail(variance, num_words=total.size)
        noise_norm = step * noise_norm_bound(variance, num_words=total.size)
        norm = num_sites * terms.noise.l2_bound * step
    update, count = total[:d], total[d:]
    largest = weight * terms.clip_value * _FLOAT32 + rounding + tail
    if max(update.max(), -update.min()) > largest:
        raise ValueError("a coordinate beyond what the sites' clip_value allows together")
    if count.size and np.abs(count).max() > num_sites * terms.clip_bit_value + rounding + tail:
        raise ValueError("more updates counted as within the clip norm than there are sites")
    if math.sqrt(float(np.dot(update, update))) > norm + noise_norm:
        raise ValueError("a norm beyond what the sites' clip_norm allows together")


def noise_norm_bound(variance: float, *, num_words: int) -> float:
    """What the L2 norm of Skellam noise in ``num_words`` coordinates exceeds with chance 2^-39.

    Each square is below T^2, T = ``skellam_tail``, but for 2^-40 in all; its mean is v and its
    variance at most E X^4 = 3 v^2 + v. Bernstein bounds the sum of the squares.
    """
    if variance == 0:
        return 0.0
    square = float(skellam_tail(variance, num_words=num_words)) ** 2
    x = -_LOG2_PROBABILITY * math.log(2)
    spread = num_words * (3 * variance**2 + variance)
    slack = x * square / 3 + math.sqrt((x * square / 3) ** 2 + 2 * x * spread)
    return math.sqrt(num_words * variance + slack)
