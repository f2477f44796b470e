"""More than 128 sites on a k-regular graph, the weaker option, and the words that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol.regular_graph import RegularGraph

__all__ = ["SparseGraph"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseGraph:
    """The k-regular graph of a run's rounds, for its records.

    degree           k, others with whom a site shares masks and shares
    threshold        t, shares of those k that rebuild a secret
    log2_insecure    log2 of the chance that some honest update is not hidden as promised
    log2_failure     log2 of the chance that a round fails which as many leave as may; both are
                     None where there is no chance at all
    """

    degree: int
    threshold: int
    log2_insecure: float | None
    log2_failure: float | None

    @classmethod
    def of(cls, graph: RegularGraph) -> SparseGraph:
        """The record of what the search has found."""
        return cls(
            degree=graph.degree,
            threshold=graph.threshold,
            log2_insecure=_finite(graph.log2_insecure),
            log2_failure=_finite(graph.log2_failure),
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SparseGraph:
        """The entry ``graph`` of a run's records.

        Raises:     ValueError for another one.
        """
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"expected a graph of secure aggregation: {error}") from error

    def in_words(self, *, n: int, t: int, c: int) -> str:
        """What sums over ``t`` of ``n`` sites or more rest on, of which ``c`` may collude."""
        return (
            f"a WEAKER graph: each site shares masks with {self.degree} of {n - 1} others; sums "
            f"hide single updates{_but_for(self.log2_insecure)} ONLY IF at most {c} sites work "
            "with the server and it does not choose by the graph who vanishes (semi-malicious "
            f"server); a round that {n - t} sites leave {_fails(self.log2_failure)}"
        )


def _finite(log2: float) -> float | None:
    return None if log2 == -math.inf else round(log2, 2)


def _but_for(log2: float | None) -> str:
    return "" if log2 is None else f" but for a chance of 2^{log2:.0f}"


def _fails(log2: float | None) -> str:
    return "still ends" if log2 is None else f"fails with a chance of 2^{log2:.0f}"
