"""Epsilon once more, by code that shares nothing with the run's own figure but the events.

The run quotes dp-accounting's PLD after comparing it with Opacus' PRV (``privacy.accounting``).
Here dp-accounting alone answers, without torch, from the events that the ledger charged: PLD for
Poisson-sampled Gaussians, and for Skellam sums the RDP bound of Agarwal et al. beside
dp-accounting's own RDP of the Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from phoenix_secure.privacy.events import Adjacency, Event, merge

__all__ = ["OLD_GRID", "RELATIVE", "TOLERANCE", "agrees", "recomputed_epsilon"]

# A claim may be this much below what is found again, and one percent; and above it by what earlier
# versions added, which quoted PRV's error bound too.
TOLERANCE = 0.002
RELATIVE = 0.01
_EARLIER = 0.02
# Above this the run quotes its RDP bound alone (``privacy.accounting``), which can be several times
# what PLD finds.
_RDP_ALONE = 400.0
# The grid of reports that were made before claims named an epsilon for replacing a record.
OLD_GRID = 1e-4


def recomputed_epsilon(
    events: Sequence[Event],
    *,
    delta: float,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE,
    grid: float | None = None,
) -> float:
    """The epsilon of all ``events`` together, adaptively composed.

    adjacency    how neighbours differ: by a record (or party) more, or by another one
    grid         interval of the privacy loss; by default from epsilon and steps

    Raises:      ValueError for delta outside (0, 1).
    Source:      Koskela et al. (2020), arXiv:1906.03049; Agarwal et al. (2021), arXiv:2110.04995;
                 ``privacy.privacy_loss`` for the pair of distributions that replacing a record has.
    """
    if not 0 < delta < 1:
        raise ValueError(f"expected 0 < delta < 1, got {delta}")
    merged = merge(events)
    if not merged:
        return 0.0
    from phoenix_secure.compliance.composition import composed_epsilon

    return composed_epsilon(merged, delta, adjacency, grid)


def agrees(claimed: float, recomputed: float) -> bool:
    """Whether a claim is what was found again, within both figures' error bounds.

    A claim above 400 is an upper bound that hides nothing: it must not be too small, and no more.
    """
    slack = RELATIVE * max(claimed, recomputed)
    above = math.inf if claimed > _RDP_ALONE else _EARLIER + slack
    return -TOLERANCE - slack <= claimed - recomputed <= above
