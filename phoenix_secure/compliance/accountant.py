"""Epsilon once more, by code that shares nothing with the run's own figure but the events.

The run quotes the larger of Opacus' PRV and dp-accounting's PLD (``privacy.accounting``). Here
dp-accounting alone answers, without torch: PLD for Poisson-sampled Gaussians, and for Skellam sums
the RDP bound of Agarwal et al. beside dp-accounting's own RDP of the Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence

from phoenix_secure.privacy.events import Event, merge

__all__ = ["RELATIVE", "TOLERANCE", "agrees", "recomputed_epsilon"]

# As in privacy.accounting: twice PRV's own error bound, and one percent.
TOLERANCE = 0.02
RELATIVE = 0.01


def recomputed_epsilon(events: Sequence[Event], *, delta: float) -> float:
    """The epsilon of all ``events`` together, adaptively composed.

    Neighbours:  add or remove one record (or one party).
    Raises:      ValueError for delta outside (0, 1).
    Source:      Koskela et al. (2020), arXiv:1906.03049; Agarwal et al. (2021), arXiv:2110.04995.
    """
    if not 0 < delta < 1:
        raise ValueError(f"expected 0 < delta < 1, got {delta}")
    merged = merge(events)
    if not merged:
        return 0.0
    from phoenix_secure.compliance.composition import composed_epsilon

    return composed_epsilon(merged, delta)


def agrees(claimed: float, recomputed: float) -> bool:
    """Whether two accountants' figures are the same within their error bounds."""
    return abs(claimed - recomputed) <= TOLERANCE + RELATIVE * max(claimed, recomputed)
