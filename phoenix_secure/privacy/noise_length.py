"""How long the noise of one sum is beside the longest sum that it can be added to."""

from __future__ import annotations

import math

__all__ = ["noise_over_signal"]


def noise_over_signal(*, noise_multiplier: float, num_parameters: int, num_summed: float) -> float:
    """Length of the noise, over the length of a sum of ``num_summed`` vectors of clip norm C that
    all point the same way: z C sqrt(d) / (m C) = z sqrt(d) / m.

    Real vectors point different ways, so that training sees less signal than this. The square of
    Gaussian noise's length is z^2 C^2 d in expectation.

    Units:      noise_multiplier z in clip norms; num_parameters d and num_summed m are counts.
    Raises:     ValueError for num_summed <= 0.
    """
    if not num_summed > 0:
        raise ValueError(f"expected num_summed > 0, got {num_summed}")
    return noise_multiplier * math.sqrt(num_parameters) / num_summed
