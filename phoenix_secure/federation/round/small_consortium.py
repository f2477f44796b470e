"""Three or four sites: secure rounds that assume no colluder at all, and the words that say so."""

from __future__ import annotations

from phoenix_secure.config import RunConfig
from protocol.parameters import num_colluders

__all__ = ["assumes_no_colluders", "no_colluders_in_words"]


def assumes_no_colluders(config: RunConfig) -> bool:
    """Whether the secure rounds of ``config`` rest on c = 0."""
    secure = config.secure_aggregation
    if secure.mode != "on":
        return False
    return num_colluders(config.partition.num_sites, gamma=secure.collusion) == 0


def no_colluders_in_words(num_summed: int) -> str:
    """The assumption behind sums over ``num_summed`` sites or more with c = 0.

    Each site hears the sums, so that two sites who compare notes need no server.
    """
    return (
        f"every sum hides an update among {num_summed} sites ONLY IF NO SITE works with the server "
        "or with another site: one that does takes its own part out of the sum and leaves "
        f"{num_summed - 1}, and {num_summed - 1} that do see the update of the last one"
    )
