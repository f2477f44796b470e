"""Rounds of more than 128 sites, on a sparse graph: the words that say what their sums rest on."""

from __future__ import annotations

__all__ = ["sparse_graph_in_words"]


def sparse_graph_in_words(degree: int) -> str:
    """The assumption behind sums over a k-regular graph of ``degree`` k."""
    return (
        f"WEAKER THAN THE COMPLETE GRAPH: each site exchanges masks with {degree} others only, so "
        "that a sum is over all survivors but for a chance below 2^-40 a round, and that only if "
        "the server passes on the keys of all sites fairly"
    )
